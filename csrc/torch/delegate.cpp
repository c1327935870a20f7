#include "delegate.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/native/CPUFallback.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <atomic>
#include <mutex>
#include <unordered_set>

#include "alias.h"
#include "cuda_delegate.h"
#include "device_name.h"
#include "generator.h"
#include "graph_capture.h"
#include "parts.h"

namespace gxu {

std::atomic<int64_t> detail::num_delegated{0};

namespace {

// Operators whose CPU tensor arguments may have dimensions, as on other accelerators.
bool accepts_cpu_tensors(const c10::OperatorHandle& op) {
  static const std::unordered_set<std::string> names{
      "aten::_pack_padded_sequence",
      "aten::_pack_padded_sequence_backward",
      "aten::_ctc_loss",
      "aten::_ctc_loss_backward",
      "aten::_copy_from",
      "aten::_copy_from_and_resize",
      "aten::empty_quantized",
      "aten::_nested_view_from_buffer",
      "aten::_nested_view_from_buffer_copy",
      "aten::_nested_from_padded",
  };
  return names.count(op.schema().name()) > 0;
}

// Replaces the gxu arguments of one call by aliases, and puts the results back on gxu.
class DelegatedCall {
 public:
  DelegatedCall(const c10::OperatorHandle& op, c10::DispatchKey functionality, torch::jit::Stack* stack)
      : op_(op),
        arguments_(op.schema().arguments()),
        stack_(stack),
        begin_(stack->size() - arguments_.size()),
        functionality_(functionality) {}

  c10::DeviceIndex device() const { return device_ >= 0 ? device_ : current_device(); }

  // Finds the device of the call and rejects operands of several.
  void check_devices() {
    at::Tensor stray;
    for (size_t i = 0; i < arguments_.size(); ++i) {
      const c10::IValue& value = (*stack_)[begin_ + i];
      const auto* alias = arguments_[i].alias_info();
      const bool is_written = alias != nullptr && alias->isWrite();
      if (value.isTensor()) {
        check_device(value.toTensor(), is_written, stray);
      } else if (value.isTensorList()) {
        for (const at::Tensor& tensor : value.toTensorList()) {
          check_device(tensor, is_written, stray);
        }
      } else if (value.isOptionalTensorList()) {
        check_indices(value.toOptionalTensorList(), is_written, stray);
      } else if (value.isDevice()) {
        const c10::Device device = value.toDevice();
        if (device.type() == kGxu) {
          requested_device_ = device.has_index() ? resolve_device_index(device.index()) : current_device();
        } else {
          keeps_cpu_results_ = true;
        }
      }
    }
    if (device_ < 0) {
      device_ = requested_device_;
    }
    if (C10_UNLIKELY(stray.defined()) && device_ >= 0 && !accepts_cpu_tensors(op_)) {
      throw_mixed_devices(stray.device());
    }
  }

  void replace_arguments() {
    for (size_t i = 0; i < arguments_.size(); ++i) {
      c10::IValue& value = (*stack_)[begin_ + i];
      const auto* alias = arguments_[i].alias_info();
      const bool is_written = alias != nullptr && alias->isWrite();
      if (value.isTensor()) {
        if (is_gxu(value.toTensor())) {
          value = replace(value.toTensor(), is_written);
        }
      } else if (value.isTensorList()) {
        auto tensors = value.toTensorVector();
        for (at::Tensor& tensor : tensors) {
          tensor = replace(tensor, is_written);
        }
        value = c10::IValue(std::move(tensors));
      } else if (value.isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> tensors;
        for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList()) {
          tensors.push_back(tensor ? std::optional<at::Tensor>(replace(*tensor, is_written)) : std::nullopt);
        }
        value = c10::IValue(std::move(tensors));
      } else if (value.isDevice()) {
        value = c10::IValue(c10::Device(c10::DeviceType::CPU));
      } else if (value.isGenerator()) {
        const at::Generator& generator = value.toGenerator();
        value = c10::IValue(delegate_generator(generator));
      } else if (value.isNone() && is_generator(arguments_[i])) {
        value = c10::IValue(delegate_generator(default_generator(device())));
      }
    }
  }

  void run() {
    const c10::DispatchKeySet functionality(functionality_);
    op_.redispatchBoxed(functionality | c10::DispatchKeySet(c10::BackendComponent::CPUBit), stack_);
  }

  void replace_results() {
    for (const Argument& argument : replaced_) {
      if (argument.is_written) {
        write_back_geometry(argument.original, argument.alias);
      }
    }
    for (const Argument& argument : replaced_whole_) {
      if (argument.is_written) {
        reassemble(argument.original, argument.alias, restore_parts(argument.alias));
      }
    }
    const size_t num_results = op_.schema().returns().size();
    for (size_t i = stack_->size() - num_results; i < stack_->size(); ++i) {
      c10::IValue& value = (*stack_)[i];
      if (value.isTensor()) {
        at::Tensor result = std::move(value).toTensor();
        value = c10::IValue(restore(result));
      } else if (value.isTensorList()) {
        auto results = value.toTensorVector();
        value = c10::IValue();
        for (at::Tensor& result : results) {
          result = restore(result);
        }
        value = c10::IValue(std::move(results));
      }
    }
  }

 private:
  struct Argument {
    at::Tensor original;
    at::Tensor alias;
    bool is_written;
  };

  static bool is_generator(const c10::Argument& argument) {
    const auto& type = argument.type();
    return type->kind() == c10::TypeKind::OptionalType &&
           type->expectRef<c10::OptionalType>().getElementType()->kind() == c10::TypeKind::GeneratorType;
  }

  void check_device(const at::Tensor& tensor, bool is_written, at::Tensor& stray) {
    if (!tensor.defined()) {
      return;
    }
    const c10::Device device = tensor.device();
    if (device.type() == kGxu) {
      if (device_ < 0) {
        device_ = device.index();
      } else if (device_ != device.index()) {
        throw_mixed_devices(device);
      }
      if (is_written) {
        own_memory(tensor);
      }
    } else if (!device.is_cpu() || tensor.dim() > 0 || is_written) {
      stray = tensor;
    }
  }

  // PyTorch's operators take optional tensors in a list as indices, of their first argument: these may be on the CPU.
  void check_indices(const c10::List<std::optional<at::Tensor>>& indices, bool is_written, at::Tensor& stray) {
    const c10::IValue& indexed = (*stack_)[begin_];
    const bool is_indexing = op_.operator_name().getNamespace() == "aten" && indexed.isTensor();
    for (const std::optional<at::Tensor>& index : indices) {
      if (!index || !index->defined()) {
        continue;
      }
      if (!is_indexing) {
        check_device(*index, is_written, stray);
        continue;
      }
      TORCH_CHECK(index->device().is_cpu() || index->device() == indexed.toTensor().device(),
                  "indices should be either on cpu or on the same device as the indexed tensor (",
                  indexed.toTensor().device(), ")");
    }
  }

  [[noreturn]] void throw_mixed_devices(c10::Device other) const {
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, ",
                c10::Device(kGxu, device_), " and ", other, "! (when checking the arguments of ", op_.schema().name(),
                ")");
  }

  at::Tensor replace(const at::Tensor& tensor, bool is_written) {
    if (!is_gxu(tensor)) {
      return tensor;
    }
    if (C10_UNLIKELY(has_parts(tensor))) {
      std::vector<at::Tensor> parts = parts_of(tensor);
      for (at::Tensor& part : parts) {
        part = replace(part, is_written);
      }
      at::Tensor whole = assemble(tensor, parts);
      keep_requires_grad(whole, tensor);
      replaced_whole_.push_back({tensor, whole, is_written});
      return whole;
    }
    at::Tensor alias = make_alias(tensor);
    keep_requires_grad(alias, tensor);
    replaced_.push_back({tensor, alias, is_written});
    return alias;
  }

  // One storage for arguments that share one, so that the operator finds those that overlap.
  at::Tensor make_alias(const at::Tensor& tensor) const {
    for (const Argument& argument : replaced_) {
      if (argument.original.storage().is_alias_of(tensor.storage())) {
        return argument.original.is_same(tensor) ? argument.alias : alias_as_cpu(tensor, argument.alias.storage());
      }
    }
    return alias_for_reading(tensor);
  }

  // Before there is any alias of what is written: memory that lazy clones share (Tensor._lazy_clone) becomes its own.
  static void own_memory(const at::Tensor& tensor) {
    if (C10_UNLIKELY(has_parts(tensor))) {
      for (const at::Tensor& part : parts_of(tensor)) {
        own_memory(part);
      }
    } else if (tensor.has_storage()) {
      tensor.storage().mutable_data();
    }
  }

  // Sparse kernels (_sparse_mm_reduce_impl) ask whether they must compute what only the gradient needs.
  void keep_requires_grad(const at::Tensor& alias, const at::Tensor& tensor) const {
    if (C10_UNLIKELY(functionality_ != c10::DispatchKey::Dense && functionality_ != c10::DispatchKey::NestedTensor) &&
        tensor.requires_grad()) {
      alias.unsafeGetTensorImpl()->set_requires_grad(true);
    }
  }

  std::vector<at::Tensor> restore_parts(const at::Tensor& whole) const {
    std::vector<at::Tensor> parts = parts_of(whole);
    for (at::Tensor& part : parts) {
      part = restore(part);
    }
    return parts;
  }

  at::Tensor restore(const at::Tensor& result) const {
    if (!result.defined() || !result.device().is_cpu() || keeps_cpu_results_) {
      return result;
    }
    for (const Argument& argument : replaced_) {
      if (argument.alias.is_same(result)) {
        return argument.original;
      }
    }
    if (C10_UNLIKELY(has_parts(result))) {
      for (const Argument& argument : replaced_whole_) {
        if (argument.alias.is_same(result)) {
          return argument.original;
        }
      }
      return assemble(result, restore_parts(result));
    }
    if (result.has_storage()) {
      for (const Argument& argument : replaced_) {
        if (argument.alias.storage().is_alias_of(result.storage())) {
          return make_view(argument.original.storage(), result);
        }
      }
    }
    return adopt_from_cpu(result, device());
  }

  const c10::OperatorHandle& op_;
  const std::vector<c10::Argument>& arguments_;
  torch::jit::Stack* stack_;
  size_t begin_;
  c10::DispatchKey functionality_;  // the layout for which the operator was called: dense, sparse or quantized
  c10::DeviceIndex device_ = -1;
  c10::DeviceIndex requested_device_ = -1;
  bool keeps_cpu_results_ = false;                // the call itself asks for results on the CPU
  c10::SmallVector<Argument, 4> replaced_;        // dense tensors, also those that sparse ones are made of
  c10::SmallVector<Argument, 1> replaced_whole_;  // sparse tensors
};

void warn_once(const std::string& name, c10::DeviceIndex device) {
  static std::mutex mutex;
  static auto* warned = new std::unordered_set<std::string>;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!warned->insert(name).second) {
      return;
    }
  }
  TORCH_WARN("The operator '", name, "' is not implemented for ", device_name(), ":", static_cast<int>(device),
             ", whose memory no other device with a kernel for it reaches: it runs on the CPU, with copies of its "
             "arguments and results.");
}

}  // namespace

template <c10::DispatchKey functionality>
void delegate_operator(const c10::OperatorHandle& op, c10::DispatchKeySet /*keys*/, torch::jit::Stack* stack) {
  ensure_initialized();
  count_delegated();
  DelegatedCall call(op, functionality, stack);
  call.check_devices();
  const c10::DeviceIndex device = call.device();
  if (device_delegate(device) == Delegate::kCuda && functionality == c10::DispatchKey::Dense && has_cuda_kernel(op)) {
    run_on_cuda(op, device, stack);
    return;
  }
  if (device_delegate(device) != Delegate::kCpu) {
    TORCH_CHECK_NOT_IMPLEMENTED(functionality == c10::DispatchKey::Dense, op.schema().name(), " of a ", functionality,
                                " tensor on ", device_name(), ":", static_cast<int>(device),
                                ", whose memory the CPU does not reach, is not supported; use a dense tensor.");
    forbid_in_capture(device, "An operator that runs on the CPU");
    warn_once(op.schema().name(), device);
    at::native::cpu_fallback(op, stack);
    return;
  }
  if (GraphWork* work = current_capture(device)) {
    capture_operator(*work, op, stack);
    return;
  }
  const DelegateScope scope(device);
  call.replace_arguments();
  call.run();
  call.replace_results();
}

template void delegate_operator<c10::DispatchKey::Dense>(const c10::OperatorHandle&, c10::DispatchKeySet,
                                                         torch::jit::Stack*);
template void delegate_operator<c10::DispatchKey::Sparse>(const c10::OperatorHandle&, c10::DispatchKeySet,
                                                          torch::jit::Stack*);
template void delegate_operator<c10::DispatchKey::SparseCsr>(const c10::OperatorHandle&, c10::DispatchKeySet,
                                                             torch::jit::Stack*);
template void delegate_operator<c10::DispatchKey::NestedTensor>(const c10::OperatorHandle&, c10::DispatchKeySet,
                                                                torch::jit::Stack*);
template void delegate_operator<c10::DispatchKey::Quantized>(const c10::OperatorHandle&, c10::DispatchKeySet,
                                                             torch::jit::Stack*);

int64_t delegated_count() { return detail::num_delegated.load(std::memory_order_relaxed); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&delegate_operator<c10::DispatchKey::Dense>>());
}

}  // namespace gxu
