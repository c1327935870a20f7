// Capturing operators that run on the delegate.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>
#include <c10/util/strides.h>

#include <unordered_map>

#include "alias.h"
#include "allocator.h"
#include "device_name.h"
#include "factory.h"
#include "graph_capture.h"

namespace gxu {
namespace {

// Gives tensors without memory in place of the arguments. Those that share a storage still do, so that the results tell
// which argument they are views of.
class MetaArguments {
 public:
  at::Tensor operator()(const at::Tensor& tensor) {
    // Numbers and other zero-dimensional CPU tensors mix with tensors of any device.
    if (!tensor.defined() || (!is_gxu(tensor) && tensor.dim() == 0)) {
      return tensor;
    }
    TORCH_CHECK(tensor.layout() == at::kStrided && !tensor.is_quantized(), "of a tensor of layout ", tensor.layout());
    c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    c10::Storage& meta_storage = storages_[storage];
    if (!meta_storage) {
      c10::Allocator* allocator = c10::GetAllocator(c10::DeviceType::Meta);
      meta_storage =
          c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage->nbytes(),
                                                             allocator->allocate(storage->nbytes()), allocator, true));
    }
    c10::DispatchKeySet keys(c10::DispatchKey::Meta);
    for (const auto key : {c10::DispatchKey::Conjugate, c10::DispatchKey::Negative}) {
      keys = tensor.key_set().has(key) ? keys.add(key) : keys;
    }
    auto meta = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(meta_storage), keys, tensor.dtype());
    auto* impl = meta.unsafeGetTensorImpl();
    impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
    pairs_.emplace_back(tensor, meta);
    return meta;
  }

  // The argument that `result` is, or is a view of; undefined where it is new.
  at::Tensor same(const at::Tensor& result) const {
    for (const auto& [argument, meta] : pairs_) {
      if (meta.is_same(result)) {
        return argument;
      }
    }
    return {};
  }
  at::Tensor base(const at::Tensor& result) const {
    for (const auto& [argument, meta] : pairs_) {
      if (meta.storage().is_alias_of(result.storage())) {
        return argument;
      }
    }
    return {};
  }

  // Carries changes of shape (out= arguments) over to the arguments.
  void resize_arguments() const {
    for (const auto& [argument, meta] : pairs_) {
      if (argument.sizes() != meta.sizes()) {
        argument.resize_(meta.sizes());
      }
      if (argument.strides() != meta.strides()) {
        argument.as_strided_(meta.sizes(), meta.strides(), meta.storage_offset());
      }
    }
  }

 private:
  std::unordered_map<c10::StorageImpl*, c10::Storage> storages_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
};

// Replaces the tensors of an argument, also those in lists, by `replace(tensor)`.
template <typename Replace>
void replace_tensors(c10::IValue& value, Replace& replace) {
  if (value.isTensor()) {
    value = replace(value.toTensor());
  } else if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (at::Tensor& tensor : tensors) {
      tensor = replace(tensor);
    }
    value = c10::IValue(std::move(tensors));
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> tensors;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList()) {
      tensors.push_back(tensor ? std::optional<at::Tensor>(replace(*tensor)) : std::nullopt);
    }
    value = c10::IValue(std::move(tensors));
  }
}

bool is_generator(const c10::Argument& argument) {
  const auto& type = argument.type();
  return type->kind() == c10::TypeKind::GeneratorType ||
         (type->kind() == c10::TypeKind::OptionalType &&
          type->expectRef<c10::OptionalType>().getElementType()->kind() == c10::TypeKind::GeneratorType);
}

// The memory of `tensor` for the graph's work. Memory of the graph's own pool is there as long as the graph, so nothing
// keeps its block: once the program has let go of the tensor, what is captured later gets the memory again, as it would
// eagerly. Other memory is kept alive.
at::Tensor alias_for_replays(const GraphWork& work, const at::Tensor& tensor) {
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  void* memory = storage->mutable_data();
  if (!CachingAllocator::instance().is_in_pool(memory, work.pool())) {
    return alias_as_cpu(tensor);
  }
  c10::Storage alias(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage->nbytes(),
                                                           at::DataPtr(memory, c10::Device(c10::DeviceType::CPU)),
                                                           c10::GetCPUAllocator(), true));
  return alias_as_cpu(tensor, std::move(alias));
}

// Tensors on the CPU are read at the capture, as numbers are: a copy of them goes into the graph.
at::Tensor captured_argument(const GraphWork& work, const at::Tensor& tensor) {
  if (!tensor.defined() || is_gxu(tensor)) {
    return tensor.defined() ? alias_for_replays(work, tensor) : tensor;
  }
  const at::Tensor copy = tensor.clone();
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
    copy.unsafeGetTensorImpl()->set_wrapped_number(true);  // takes part in type promotion as a number
  }
  return copy;
}

// What a replay of one operator needs.
struct CapturedCall {
  c10::OperatorHandle op;
  torch::jit::Stack arguments;
  std::vector<std::pair<size_t, GraphWork::RandomPosition>> generators;  // by argument
  std::vector<std::vector<at::Tensor>> results;  // by return: memory that a new tensor, or a list of them, goes to

  void operator()() const {
    torch::jit::Stack stack = arguments;
    for (const auto& [index, position] : generators) {
      stack[index] = c10::IValue(delegate_generator(position.key()));
    }
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i].empty()) {
        continue;
      }
      const std::vector<at::Tensor> values =
          stack[i].isTensor() ? std::vector<at::Tensor>{stack[i].toTensor()} : stack[i].toTensorVector();
      for (size_t k = 0; k < results[i].size(); ++k) {
        store(values.at(k), results[i][k]);
      }
    }
  }

 private:
  static void store(const at::Tensor& value, const at::Tensor& memory) {
    if (!memory.defined()) {
      return;
    }
    TORCH_CHECK(value.sizes() == memory.sizes(), "its result has the shape ", value.sizes(), ", but had ",
                memory.sizes(), " when it was captured");
    memory.copy_(value);
  }
};

void run_meta_kernel(const c10::OperatorHandle& op, torch::jit::Stack& stack) {
  const c10::impl::ExcludeDispatchKeyGuard below_autograd(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  try {
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::Meta), &stack);
  } catch (const c10::Error&) {
    throw;
  } catch (const std::exception& error) {  // of a shape function in Python
    TORCH_CHECK(false, "whose result's shape is not known without its values: ", error.what());
  }
}

at::DimVector strides_in(at::MemoryFormat format, at::IntArrayRef sizes) {
  if (format == at::MemoryFormat::ChannelsLast && sizes.size() == 3) {  // with a height of 1 that is left out
    return {sizes[1] * sizes[2], 1, sizes[1]};
  }
  if (format == at::MemoryFormat::ChannelsLast && sizes.size() == 4) {
    return at::DimVector(at::IntArrayRef(c10::get_channels_last_strides_2d(sizes)));
  }
  if (format == at::MemoryFormat::ChannelsLast3d && sizes.size() == 5) {
    return at::DimVector(at::IntArrayRef(c10::get_channels_last_strides_3d(sizes)));
  }
  return c10::contiguous_strides(sizes);
}

void capture_call(GraphWork& work, const c10::OperatorHandle& op, torch::jit::Stack* stack,
                  std::optional<at::MemoryFormat> format) {
  const c10::FunctionSchema& schema = op.schema();
  const auto& parameters = schema.arguments();
  const size_t begin = stack->size() - parameters.size();
  for (const c10::Argument& result : schema.returns()) {
    const auto kind = result.type()->kind();
    TORCH_CHECK(
        kind == c10::TypeKind::TensorType ||
            (kind == c10::TypeKind::ListType && result.type()->containedType(0)->kind() == c10::TypeKind::TensorType),
        "whose result is a number: it waits for the device, which runs nothing during a capture");
  }

  MetaArguments to_meta;
  torch::jit::Stack meta_stack(stack->begin() + static_cast<std::ptrdiff_t>(begin), stack->end());
  for (size_t i = 0; i < meta_stack.size(); ++i) {
    replace_tensors(meta_stack[i], to_meta);
    if (meta_stack[i].isDevice()) {
      TORCH_CHECK(meta_stack[i].toDevice().type() == kGxu, "that copies to another device");
      meta_stack[i] = c10::IValue(c10::Device(c10::DeviceType::Meta));
    } else if (is_generator(parameters[i])) {
      meta_stack[i] = c10::IValue();
    }
  }
  run_meta_kernel(op, meta_stack);
  to_meta.resize_arguments();

  CapturedCall call{op, torch::jit::Stack(stack->begin() + static_cast<std::ptrdiff_t>(begin), stack->end()), {}, {}};
  const auto captured = [&work](const at::Tensor& tensor) { return captured_argument(work, tensor); };
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    c10::IValue& value = call.arguments[i];
    if (is_generator(parameters[i])) {
      GeneratorImpl& generator = generator_or_default(value.toOptional<at::Generator>(), work.device());
      call.generators.emplace_back(i, work.reserve_words(generator, kPhiloxGroupWords));
    } else if (value.isDevice()) {
      value = c10::IValue(c10::Device(c10::DeviceType::CPU));
    } else {
      replace_tensors(value, captured);
    }
  }

  torch::jit::Stack results;
  for (c10::IValue& value : meta_stack) {
    std::vector<at::Tensor> memory;
    const auto restore = [&](const at::Tensor& meta) {
      memory.emplace_back();
      if (!meta.defined()) {
        return meta;
      }
      if (const at::Tensor argument = to_meta.same(meta); argument.defined()) {
        return argument;
      }
      if (const at::Tensor base = to_meta.base(meta); base.defined()) {
        return make_view(base.storage(), meta);
      }
      const DeviceScope scope(work.device());
      const at::DimVector strides = format ? strides_in(*format, meta.sizes()) : at::DimVector(meta.strides());
      const at::Tensor fresh = empty_strided(meta.sizes(), strides, meta.scalar_type());
      memory.back() = alias_for_replays(work, fresh);
      return fresh;
    };
    replace_tensors(value, restore);
    call.results.push_back(std::move(memory));
    results.push_back(std::move(value));
  }
  work.enqueue(schema.name(), std::move(call));
  stack->resize(begin);
  stack->insert(stack->end(), results.begin(), results.end());
}

}  // namespace

void capture_operator(GraphWork& work, const c10::OperatorHandle& op, torch::jit::Stack* stack,
                      std::optional<at::MemoryFormat> format) {
  try {
    capture_call(work, op, stack, format);
  } catch (const c10::Error& error) {
    const std::string message =
        "A graph cannot capture " + op.schema().name() + ", " + error.what_without_backtrace() + ".";
    work.fail(message);
    TORCH_CHECK(false, message);
  }
}

void capture_copy(GraphWork& work, const at::Tensor& destination, const at::Tensor& source) {
  if (!is_gxu(destination) || !is_gxu(source)) {
    const std::string message =
        "A graph cannot capture a copy between " + device_name() +
        " and pageable CPU memory: it waits for the device. Copy outside of the capture, or from "
        "and to pinned memory with non_blocking=True.";
    work.fail(message);
    TORCH_CHECK(false, message);
  }
  work.enqueue("aten::copy_",
               [to = alias_for_replays(work, destination), from = alias_for_replays(work, source)] { to.copy_(from); });
}

}  // namespace gxu
