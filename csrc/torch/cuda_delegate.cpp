// Built and used without CUDA's headers: PyTorch's own interfaces reach its CUDA device, which has the same number as
// the runtime's, and a stream of the driver's is a stream of that device by its address.
#include "cuda_delegate.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <array>
#include <atomic>
#include <mutex>

#include "../runtime/gxu_native.h"
#include "alias.h"
#include "allocator.h"
#include "device.h"
#include "generator.h"
#include "graph_capture.h"
#include "stream.h"

namespace gxu {
namespace {

constexpr c10::DeviceType kCuda = c10::DeviceType::CUDA;

// Captures whose CUDA memory has a pool of its own.
std::atomic<int> num_open_pools{0};

// nullptr where the library does not tell.
decltype(&::gxuStreamGetNative) find_get_native() {
  void* library = dlopen(runtime_path().c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr
                            : reinterpret_cast<decltype(&::gxuStreamGetNative)>(dlsym(library, "gxuStreamGetNative"));
}

decltype(&::gxuStreamGetNative) get_native() {
  static const auto function = find_get_native();
  return function;
}

bool is_delegate(c10::DeviceIndex device) { return device_delegate(device) == Delegate::kCuda; }

// PyTorch's name for the driver's stream behind a stream of the device: a stream from elsewhere is its own id.
c10::Stream cuda_stream(c10::DeviceIndex device, c10::StreamId id) {
  const DeviceScope scope(device);
  void* native = nullptr;
  check(get_native()(&native, native_stream(id)), "gxuStreamGetNative");
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kCuda, device),
                     static_cast<c10::StreamId>(reinterpret_cast<intptr_t>(native)));
}

// In its scope PyTorch's CUDA kernels go to the driver's stream behind this thread's current stream of the device.
class CudaStreamScope {
 public:
  explicit CudaStreamScope(c10::DeviceIndex device)
      : guard_(kCuda), previous_device_(guard_.exchangeDevice(c10::Device(kCuda, device))) {
    try {
      previous_stream_ = guard_.exchangeStream(cuda_stream(device, current_stream_id(device)));
    } catch (...) {  // the destructor of what is not constructed does not run
      guard_.uncheckedSetDevice(previous_device_);
      throw;
    }
  }
  ~CudaStreamScope() {
    if (previous_stream_) {
      guard_.exchangeStream(*previous_stream_);
    }
    guard_.uncheckedSetDevice(previous_device_);
  }
  CudaStreamScope(const CudaStreamScope&) = delete;

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Device previous_device_;
  std::optional<c10::Stream> previous_stream_;
};

c10::Storage storage_as_cuda(const at::Tensor& tensor) {
  const c10::Device device(kCuda, tensor.device().index());
  c10::StorageImpl* memory = tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), memory->nbytes(),
                                               share_memory(memory, device), c10::GetAllocator(kCuda), true);
}

// `storage`: that of an alias of another tensor with the same memory, where there is one, so that operators see by
// their storages that two arguments overlap.
at::Tensor alias_as_cuda(const at::Tensor& tensor, c10::Storage storage) {
  c10::DispatchKeySet keys =
      c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CUDABit);
  for (const auto key : {c10::DispatchKey::Conjugate, c10::DispatchKey::Negative, c10::DispatchKey::ZeroTensor}) {
    if (tensor.key_set().has(key)) {
      keys = keys.add(key);
    }
  }
  at::Tensor alias = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, tensor.dtype());
  auto* impl = alias.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return alias;
}

// Makes memory of PyTorch's CUDA allocator gxu memory. Its deleter gives it back there.
void relabel(c10::StorageImpl& storage, c10::DeviceIndex device) {
  at::DataPtr memory = storage.set_data_ptr(at::DataPtr(nullptr, storage.device()));
  memory.unsafe_set_device(c10::Device(kGxu, device));
  storage.set_data_ptr_noswap(std::move(memory));
  storage.set_allocator(&CachingAllocator::instance());
}

// The next number of the device's generator: its state alone decides what CUDA's kernels draw.
uint64_t next_seed(const std::optional<at::Generator>& given, c10::DeviceIndex device) {
  // A replay would draw the numbers of the capture again.
  forbid_in_capture(device, "An operator that draws random numbers on PyTorch's cuda kernels");
  std::array<uint32_t, kPhiloxGroupWords> words;
  philox_words(reserve_words(generator_or_default(given, device), kPhiloxGroupWords), words.data(), 1);
  return words[0] | static_cast<uint64_t>(words[1]) << 32;
}

// In its scope operators that take no generator (dropout, attention) draw from a seed of gxu's; CUDA's default
// generator is afterwards as it was. One thread at a time.
class SeededDefaultGenerator {
 public:
  explicit SeededDefaultGenerator(c10::DeviceIndex device)
      : lock_(mutex()),
        generator_(at::globalContext().defaultGenerator(c10::Device(kCuda, device))),
        seed_(generator_.current_seed()),
        offset_(generator_.get_offset()) {
    generator_.set_current_seed(next_seed(std::nullopt, device));
  }
  ~SeededDefaultGenerator() {
    generator_.set_current_seed(seed_);
    generator_.set_offset(offset_);
  }
  SeededDefaultGenerator(const SeededDefaultGenerator&) = delete;

 private:
  static std::mutex& mutex() {
    static auto* mutex = new std::mutex;
    return *mutex;
  }

  std::lock_guard<std::mutex> lock_;
  at::Generator generator_;
  uint64_t seed_;
  uint64_t offset_;
};

// The arguments and results of one call.
class CudaCall {
 public:
  CudaCall(const c10::OperatorHandle& op, c10::DeviceIndex device, torch::jit::Stack* stack)
      : op_(op), device_(device), stack_(stack) {}

  void replace_arguments() {
    const auto& arguments = op_.schema().arguments();
    const size_t begin = stack_->size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      c10::IValue& value = (*stack_)[begin + i];
      const auto* alias = arguments[i].alias_info();
      const bool is_written = alias != nullptr && alias->isWrite();
      if (value.isTensor()) {
        value = replace(value.toTensor(), is_written);
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
      } else if (value.isDevice() && value.toDevice().type() == kGxu) {
        value = c10::IValue(c10::Device(kCuda, device_));
      } else if (takes_generator(arguments[i])) {
        has_generator_ = true;
        value =
            c10::IValue(cuda_generator(value.isGenerator() ? std::make_optional(value.toGenerator()) : std::nullopt));
      }
    }
  }

  void run() {
    std::optional<SeededDefaultGenerator> seeded;
    if (!has_generator_ && op_.hasTag(at::Tag::nondeterministic_seeded)) {
      seeded.emplace(device_);
    }
    op_.redispatchBoxed(
        c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CUDABit), stack_);
  }

  void replace_results() {
    for (const Argument& argument : replaced_) {
      if (argument.is_written) {
        carry_back(argument);
      }
    }
    const size_t count = op_.schema().returns().size();
    for (size_t i = stack_->size() - count; i < stack_->size(); ++i) {
      c10::IValue& value = (*stack_)[i];
      if (value.isTensor()) {
        value = c10::IValue(restore(value.toTensor()));
      } else if (value.isTensorList()) {
        auto results = value.toTensorVector();
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

  static bool takes_generator(const c10::Argument& argument) {
    const c10::TypePtr& type = argument.type();
    const auto optional = type->cast<c10::OptionalType>();
    return (optional ? optional->getElementType() : type)->kind() == c10::TypeKind::GeneratorType;
  }

  // As the CPU delegate's: of CUDA, and for this call.
  at::Generator cuda_generator(const std::optional<at::Generator>& given) const {
    if (given && given->defined() && given->device().type() == kCuda) {
      return *given;
    }
    at::Generator generator = at::globalContext().getAcceleratorHooksInterface(kCuda).getNewGenerator(device_);
    generator.set_current_seed(next_seed(given, device_));
    return generator;
  }

  at::Tensor replace(const at::Tensor& tensor, bool is_written) {
    if (!is_gxu(tensor)) {
      return tensor;
    }
    for (Argument& argument : replaced_) {
      if (argument.original.is_same(tensor)) {
        argument.is_written |= is_written;
        return argument.alias;
      }
    }
    c10::Storage storage = storage_of_alias(tensor);
    at::Tensor alias = alias_as_cuda(tensor, storage ? std::move(storage) : storage_as_cuda(tensor));
    replaced_.push_back({tensor, alias, is_written});
    return alias;
  }

  c10::Storage storage_of_alias(const at::Tensor& tensor) const {
    for (const Argument& argument : replaced_) {
      if (argument.original.storage().is_alias_of(tensor.storage())) {
        return argument.alias.storage();
      }
    }
    return {};
  }

  // What resize_ and out= do to an alias.
  void carry_back(const Argument& argument) const {
    const at::Tensor& original = argument.original;
    const at::Tensor& alias = argument.alias;
    c10::StorageImpl& to = *original.storage().unsafeGetStorageImpl();
    c10::StorageImpl& from = *alias.storage().unsafeGetStorageImpl();
    if (to.data() != from.data()) {
      if (from.device_type() != kGxu) {  // another alias with this storage may have done so
        relabel(from, device_);
      }
      to.set_data_ptr_noswap(share_memory(&from, c10::Device(kGxu, device_)));
    }
    to.set_nbytes(from.nbytes());
    if (original.sizes() != alias.sizes() || original.strides() != alias.strides() ||
        original.storage_offset() != alias.storage_offset()) {
      original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    }
    if (original.is_conj() != alias.is_conj()) {
      original._set_conj(alias.is_conj());
    }
    if (original.is_neg() != alias.is_neg()) {
      original._set_neg(alias.is_neg());
    }
  }

  at::Tensor restore(const at::Tensor& result) const {
    if (!result.defined() || result.device().type() != kCuda) {
      return result;
    }
    for (const Argument& argument : replaced_) {
      if (argument.alias.is_same(result)) {
        return argument.original;
      }
    }
    for (const Argument& argument : replaced_) {
      if (argument.alias.storage().is_alias_of(result.storage())) {
        return make_view(argument.original.storage(), result);
      }
    }
    TORCH_CHECK_NOT_IMPLEMENTED(result.layout() == at::kStrided && result.has_storage(), op_.schema().name(),
                                " gives a result with layout ", result.layout(),
                                ", which is not supported here; move the inputs to the CPU first.");
    c10::Storage storage = result.storage();
    // Results that share one storage share it here too: the first one relabels it for all.
    if (storage.device_type() != kGxu) {
      relabel(*storage.unsafeGetStorageImpl(), device_);
    }
    return make_view(std::move(storage), result);
  }

  const c10::OperatorHandle& op_;
  const c10::DeviceIndex device_;
  torch::jit::Stack* stack_;
  bool has_generator_ = false;
  c10::SmallVector<Argument, 4> replaced_;
};

}  // namespace

bool has_cuda_delegate() { return c10::impl::hasDeviceGuardImpl(kCuda) && get_native() != nullptr; }

bool has_cuda_kernel(const c10::OperatorHandle& op) {
  return op.hasComputedKernelForDispatchKey(c10::DispatchKey::CUDA);
}

void run_on_cuda(const c10::OperatorHandle& op, c10::DeviceIndex device, torch::jit::Stack* stack) {
  if (num_open_pools.load(std::memory_order_relaxed) == 0) {
    // The kernel would be captured, but the memory of its results given to others before a replay writes to it.
    forbid_in_capture(device, "An operator on PyTorch's cuda kernels");
  }
  at::globalContext().lazyInitDevice(kCuda);  // its allocator; at once where it was done before
  const c10::impl::ExcludeDispatchKeyGuard below_autograd(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const CudaStreamScope scope(device);
  CudaCall call(op, device, stack);
  call.replace_arguments();
  call.run();
  call.replace_results();
}

bool pinned_by_cuda(const at::Tensor& tensor) {
  return at::globalContext().getAcceleratorHooksInterface(kCuda).isPinnedPtr(tensor.const_data_ptr());
}

at::Tensor like_on_cuda(const at::Tensor& tensor) {
  const c10::Device device(kCuda, tensor.device().index());
  c10::Storage nothing(c10::Storage::use_byte_size_t(), 0, at::DataPtr(nullptr, device));
  at::Tensor like = at::detail::make_tensor<c10::TensorImpl>(
      std::move(nothing),
      c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CUDABit),
      tensor.dtype());
  auto* impl = like.unsafeGetTensorImpl();
  if (tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) {
    impl->set_sizes_and_strides(tensor.sym_sizes(), tensor.sym_strides(), tensor.sym_storage_offset());
  } else {
    impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  }
  return like;
}

bool record_cuda_stream(const at::DataPtr& pointer, c10::Stream stream) {
  if (!is_delegate(stream.device_index())) {
    return false;
  }
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(kCuda));
  if (allocator == nullptr || pointer.get_deleter() != allocator->raw_deleter()) {
    return false;
  }
  allocator->recordStream(pointer, cuda_stream(stream.device_index(), stream.id()));
  return true;
}

bool release_cuda_cache(c10::DeviceIndex device) {
  if (!is_delegate(device)) {
    return false;
  }
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(kCuda));
  if (allocator == nullptr || !allocator->initialized()) {
    return false;
  }
  allocator->emptyCache();
  return true;
}

void count_open_cuda_pools(int change) { num_open_pools.fetch_add(change, std::memory_order_relaxed); }

}  // namespace gxu
