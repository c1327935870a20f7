// Stands in for the cuda device of a PyTorch that was built without one, so that csrc/torch/cuda_delegate can be run
// where there is no GPU. Its memory is the runtime's, its kernels are the CPU's, on aliases, and its streams are the
// addresses of the runtime's: before a kernel runs, it waits for the stream that is current on "cuda", as a real one
// would enqueue there.
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>

namespace {

const c10::Device kCpu(c10::DeviceType::CPU);
const c10::Device kCuda(c10::DeviceType::CUDA, 0);
const c10::DispatchKeySet kCudaKeys =
    c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CUDABit);

std::mutex calls_mutex;
std::string calls;  // a line for each kernel: its operator's name and its stream's address
thread_local c10::StreamId current_stream = 0;

// A function of the runtime, which gxu has loaded.
template <typename... Arguments>
void call_runtime(const char* name, Arguments... arguments) {
  static void* const library = dlopen(std::getenv("GXU_RUNTIME"), RTLD_NOW | RTLD_NOLOAD);
  const auto function = reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name));
  TORCH_CHECK(function != nullptr && function(arguments...) == 0, name, " of the runtime failed");
}

void free_memory(void* memory) { call_runtime("gxuFree", memory); }

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t nbytes) override {
    void* memory = nullptr;
    if (nbytes > 0) {
      call_runtime("gxuMalloc", &memory, nbytes);
      std::memset(memory, 0xA5, nbytes);
    }
    return {memory, memory, &free_memory, kCuda};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_memory; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }
};

Memory memory;

std::set<const void*> pinned;

// What PyTorch takes for pin_memory=True.
struct PinnedMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t nbytes) override {
    void* memory = std::malloc(nbytes);
    pinned.insert(memory);
    return {memory, memory, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }

 private:
  static void release(void* memory) {
    pinned.erase(memory);
    std::free(memory);
  }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kCuda.type(); }
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return kCuda; }
  c10::Device getDevice() const override { return kCuda; }
  void setDevice(c10::Device /*device*/) const override {}
  void uncheckedSetDevice(c10::Device /*device*/) const noexcept override {}
  c10::Stream getStream(c10::Device /*device*/) const override {
    return c10::Stream(c10::Stream::UNSAFE, kCuda, current_stream);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return c10::Stream(c10::Stream::UNSAFE, kCuda, std::exchange(current_stream, stream.id()));
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};

struct Generator final : c10::GeneratorImpl {
  Generator() : c10::GeneratorImpl(kCuda, c10::DispatchKeySet(c10::DispatchKey::CUDA)) {}
  void set_current_seed(uint64_t seed) override { seed_ = seed, offset_ = 0; }
  void set_offset(uint64_t offset) override { offset_ = offset; }
  uint64_t get_offset() const override { return offset_; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override { return seed_; }
  void set_state(const c10::TensorImpl& /*state*/) override { TORCH_CHECK(false, "has no state"); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { TORCH_CHECK(false, "has no state"); }
  Generator* clone_impl() const override { return new Generator; }

 private:
  uint64_t seed_ = 0;
  uint64_t offset_ = 0;
};

const at::Generator& default_generator() {
  static const at::Generator generator = at::make_generator<Generator>();
  return generator;
}

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs /*arguments*/) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isPinnedPtr(const void* data) const override { return pinned.count(data) > 0; }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PinnedMemory pinned_memory;
    return &pinned_memory;
  }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex /*device*/) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex /*device*/) const override { return at::make_generator<Generator>(); }
};

void wait_for_current_stream() { call_runtime("gxuStreamSynchronize", reinterpret_cast<void*>(current_stream)); }

at::Tensor over_storage(c10::Storage storage, c10::DispatchKeySet keys, const at::Tensor& like) {
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  tensor._set_conj(like.is_conj());
  tensor._set_neg(like.is_neg());
  return tensor;
}

// One call of a kernel of the CPU's.
class Call {
 public:
  void replace(c10::IValue& value) {
    if (value.isTensor()) {
      value = alias(value.toTensor());
    } else if (value.isTensorList()) {
      auto tensors = value.toTensorVector();
      for (at::Tensor& tensor : tensors) {
        tensor = alias(tensor);
      }
      value = std::move(tensors);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> tensors;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList()) {
        tensors.push_back(tensor ? std::optional<at::Tensor>(alias(*tensor)) : std::nullopt);
      }
      value = std::move(tensors);
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      value = kCpu;
    } else if (value.isGenerator() && value.toGenerator().device().is_cuda()) {
      value = at::detail::createCPUGenerator(value.toGenerator().current_seed());
    }
  }

  void restore(c10::IValue& value) {
    if (value.isTensor()) {
      value = to_cuda(value.toTensor());
    } else if (value.isTensorList()) {
      auto tensors = value.toTensorVector();
      for (at::Tensor& tensor : tensors) {
        tensor = to_cuda(tensor);
      }
      value = std::move(tensors);
    }
  }

  // What resize_ and out= do to an alias.
  void carry_back() {
    for (auto& [original, alias] : arguments_) {
      if (original.sizes() == alias.sizes() && original.strides() == alias.strides()) {
        continue;
      }
      c10::StorageImpl& to = *original.storage().unsafeGetStorageImpl();
      if (to.data() != alias.storage().data()) {
        c10::DataPtr fresh = memory.allocate(alias.storage().nbytes());
        std::memcpy(fresh.get(), alias.storage().data(), alias.storage().nbytes());
        to.set_data_ptr_noswap(std::move(fresh));
        to.set_nbytes(alias.storage().nbytes());
      }
      original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    }
  }

 private:
  at::Tensor alias(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.device().is_cuda()) {
      return tensor;
    }
    c10::Storage storage;
    for (const auto& [original, alias] : arguments_) {
      if (original.is_same(tensor)) {
        return alias;
      }
      if (original.storage().is_alias_of(tensor.storage())) {
        storage = alias.storage();
      }
    }
    if (!storage) {
      storage = c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                             c10::DataPtr(tensor.storage().mutable_data(), kCpu), c10::GetCPUAllocator(), true);
    }
    arguments_.emplace_back(tensor, over_storage(std::move(storage),
                                                 c10::DispatchKeySet(c10::DispatchKey::Dense) |
                                                     c10::DispatchKeySet(c10::BackendComponent::CPUBit),
                                                 tensor));
    return arguments_.back().second;
  }

  at::Tensor to_cuda(const at::Tensor& result) {
    if (!result.defined()) {
      return result;
    }
    for (const auto& [original, alias] : arguments_) {
      if (alias.is_same(result)) {
        return original;
      }
    }
    for (const auto& [original, alias] : arguments_) {
      if (alias.storage().is_alias_of(result.storage())) {
        return over_storage(original.storage(), kCudaKeys, result);
      }
    }
    c10::DataPtr fresh = memory.allocate(result.storage().nbytes());
    if (fresh) {
      std::memcpy(fresh.get(), result.storage().data(), result.storage().nbytes());
    }
    return over_storage(
        c10::Storage(c10::Storage::use_byte_size_t(), result.storage().nbytes(), std::move(fresh), &memory, true),
        kCudaKeys, result);
  }

  std::vector<std::pair<at::Tensor, at::Tensor>> arguments_;
};

void write_down(const std::string& name) {
  std::lock_guard<std::mutex> lock(calls_mutex);
  calls += name + " " + std::to_string(current_stream) + "\n";
}

void run_kernel(const c10::OperatorHandle& op, c10::DispatchKeySet /*keys*/, torch::jit::Stack* stack) {
  write_down(op.schema().name());
  wait_for_current_stream();
  if (op.hasTag(at::Tag::nondeterministic_seeded)) {
    at::Generator generator = at::globalContext().defaultGenerator(kCpu);
    generator.set_current_seed(default_generator().current_seed());
  }
  Call call;
  const size_t begin = stack->size() - op.schema().arguments().size();
  for (size_t i = begin; i < stack->size(); ++i) {
    call.replace((*stack)[i]);
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CPUBit),
                     stack);
  call.carry_back();
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); ++i) {
    call.restore((*stack)[i]);
  }
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> /*layout*/,
                 std::optional<at::Device> /*device*/, std::optional<bool> /*pin_memory*/,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, kCudaKeys, dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                         std::optional<bool> /*pin_memory*/) {
  return at::detail::empty_strided_generic(size, stride, &memory, kCudaKeys, dtype.value_or(at::kFloat));
}

// 1, the flash kernel, for what has no mask, else 0.
int64_t choose_attention(const at::Tensor& /*query*/, const at::Tensor& /*key*/, const at::Tensor& /*value*/,
                         const std::optional<at::Tensor>& mask, double /*dropout*/, bool /*is_causal*/,
                         std::optional<double> /*scale*/, bool /*enable_gqa*/) {
  return mask ? 0 : 1;
}

using Attention = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
                             at::Tensor, at::Tensor>;

Attention flash_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, double dropout,
                          bool is_causal, bool /*return_debug_mask*/, std::optional<double> scale) {
  write_down("aten::_scaled_dot_product_flash_attention");
  auto [output, logsumexp] =
      at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout, is_causal, std::nullopt, scale);
  const at::Tensor number = at::empty({}, query.options().dtype(at::kLong));
  return {output,          logsumexp, at::Tensor(), at::Tensor(), query.sym_size(2),
          key.sym_size(2), number,    number,       at::Tensor()};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_attention_backward(
    const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& output, const at::Tensor& logsumexp, const at::Tensor& /*cum_seq_q*/,
    const at::Tensor& /*cum_seq_k*/, c10::SymInt /*max_q*/, c10::SymInt /*max_k*/, double dropout, bool is_causal,
    const at::Tensor& /*seed*/, const at::Tensor& /*offset*/, std::optional<double> scale) {
  write_down("aten::_scaled_dot_product_flash_attention_backward");
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(grad, query, key, value, output, logsumexp, dropout,
                                                                  is_causal, std::nullopt, scale);
}

using torch::CppFunction;

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(CppFunction::makeFromBoxedFunction<&run_kernel>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("copy_", CppFunction::makeFromBoxedFunction<&run_kernel>());
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_fused_sdp_choice", &choose_attention);
  library.impl("_scaled_dot_product_flash_attention", &flash_attention);
  library.impl("_scaled_dot_product_flash_attention_backward", &flash_attention_backward);
}

}  // namespace

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
REGISTER_ALLOCATOR(c10::DeviceType::CUDA, &memory)

// The calls since the last time. The caller frees them.
extern "C" char* take_calls() {
  std::lock_guard<std::mutex> lock(calls_mutex);
  char* taken = strdup(calls.c_str());
  calls.clear();
  return taken;
}
