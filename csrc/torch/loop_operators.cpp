// Reductions and ranges, whose CPU kernels serve gxu tensors as they are: they build iterators over what they are
// given, and ask for a loop by its device (ATen/native/DispatchStub.h), which is the CPU's for gxu, too.
//
// A kernel belongs here if it does nothing else by the device; mean (a sum that is divided, on the CPU alone) and sums
// of 16-bit types (with a buffer on the CPU) do. Reductions of large tensors, whose partial results PyTorch divides
// among its threads, and results of another type, which the elements are converted to first, are the delegate's.

// libtorch's functions that choose the CPU's loop take one for each set of instructions that it was built for, and
// DispatchStub.h declares them by these definitions of that build. For other processors there is no such list.
#ifdef __x86_64__
#define HAVE_AVX2_CPU_DEFINITION
#define HAVE_AVX512_CPU_DEFINITION
#define GXU_HAS_CPU_LOOPS 1
#else
#define GXU_HAS_CPU_LOOPS 0
#endif

#include <ATen/CPUFunctions.h>
#include <ATen/NativeFunctions.h>
#include <ATen/Operators.h>
#include <ATen/Parallel.h>
#include <ATen/native/RangeFactories.h>
#include <ATen/native/ReduceAllOps.h>
#include <ATen/native/ReduceOps.h>
#include <torch/library.h>

#include <string>
#include <utility>

#include "elementwise_call.h"

namespace gxu {
namespace {

// Calls the CPU's loop of `stub`: a loop for gxu, and itself callable.
template <auto& stub, typename... Arguments>
void run_cpu_loop(Arguments... arguments) {
  if constexpr (GXU_HAS_CPU_LOOPS) {
    stub(c10::DeviceType::CPU, std::forward<Arguments>(arguments)...);
  }
}

// Whether one thread reduces all of it, with the CPU's loops.
bool is_serial(const at::Tensor& self) { return GXU_HAS_CPU_LOOPS && self.numel() < at::internal::GRAIN_SIZE; }

// Whether a sum or product is one in the type of its elements, and in no buffer.
bool is_plain_sum(const at::Tensor& self, std::optional<at::ScalarType> dtype) {
  const at::ScalarType type = self.scalar_type();
  const bool keeps_type = type == at::kFloat || type == at::kDouble || type == at::kLong;
  return keeps_type && (!dtype || *dtype == type);
}

// `Operator` is sum.dim_IntList or prod.dim_int; `delegated` is the CPU's function for it.
template <typename Operator, typename Structured, auto delegated, typename Dimensions>
at::Tensor sum(const at::Tensor& self, Dimensions dim, bool keepdim, std::optional<at::ScalarType> dtype) {
  if (C10_LIKELY(is_serial(self) && is_plain_sum(self, dtype))) {
    return ElementwiseCall<Operator, Structured>::call(self, dim, keepdim, dtype);
  }
  return DirectCall<Operator, delegated>::call(self, dim, keepdim, dtype);
}

// `Operator` is amax, amin, argmax or argmin.
template <typename Operator, typename Structured, auto delegated, typename Dimensions>
at::Tensor extremum(const at::Tensor& self, Dimensions dim, bool keepdim) {
  if (C10_LIKELY(is_serial(self))) {
    return ElementwiseCall<Operator, Structured>::call(self, dim, keepdim);
  }
  return DirectCall<Operator, delegated>::call(self, dim, keepdim);
}

// `Operator` is max or min of all elements, which has no structured kernel: its loop takes the tensors.
template <typename Operator, auto& stub, auto delegated>
at::Tensor extremum_of_all(const at::Tensor& self) {
  const c10::DeviceIndex device = self.device().index();
  if (C10_UNLIKELY(!is_serial(self) || self.numel() == 0 || !self.is_contiguous() || !LentAlias::suits(self) ||
                   device_delegate(device) != Delegate::kCpu || current_capture(device) != nullptr)) {
    return DirectCall<Operator, delegated>::call(self);
  }
  const PlainAccess access(device);
  at::Tensor result = allocate_result({}, self.options());
  run_cpu_loop<stub, at::Tensor&, const at::Tensor&>(result, self);
  return result;
}

// Into a tensor without memory, as torch.arange gives it: what another holds would be copied when it is resized, by the
// stream, and after the range is written.
at::Tensor& arange(const at::Scalar& start, const at::Scalar& end, const at::Scalar& step, at::Tensor& out) {
  const c10::DeviceIndex device = out.device().index();
  if (C10_UNLIKELY(!GXU_HAS_CPU_LOOPS || !LentAlias::suits(out) || out.storage().nbytes() > 0 ||
                   device_delegate(device) != Delegate::kCpu || current_capture(device) != nullptr)) {
    return DirectCall<at::_ops::arange_start_out, &at::cpu::arange_outf>::call(start, end, step, out);
  }
  const PlainAccess access(device);
  return at::native::arange_out(start, end, step, out);
}

template <typename Operator, auto kernel>
void register_reduction(torch::Library& library) {
  std::string name = Operator::name;
  if (*Operator::overload_name != '\0') {
    name += std::string(".") + Operator::overload_name;
  }
  library.impl(name.c_str(), kernel);
}

// clang-format off
// _(operator, template, structured kernel, function of at::cpu, dimensions)
#define GXU_REDUCTIONS(_) \
  _(sum_dim_IntList, sum, sum_out, sum, at::OptionalIntArrayRef) \
  _(prod_dim_int, sum, prod_out, prod, int64_t) \
  _(amax, extremum, amax_out, amax, at::IntArrayRef) \
  _(amin, extremum, amin_out, amin, at::IntArrayRef) \
  _(argmax, extremum, argmax_out, argmax, std::optional<int64_t>) \
  _(argmin, extremum, argmin_out, argmin, std::optional<int64_t>)
// _(operator, loop)
#define GXU_REDUCTIONS_OF_ALL(_) \
  _(max, max_all_stub) \
  _(min, min_all_stub)
// clang-format on

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
#define GXU_REGISTER_REDUCTION(name, function, kernel, delegated, dimensions)   \
  register_reduction<at::_ops::name,                                            \
                     &function<at::_ops::name, at::native::structured_##kernel, \
                               static_cast<at::_ops::name::schema*>(&at::cpu::delegated), dimensions>>(library);
  library.impl("arange.start_out", &arange);
  GXU_REDUCTIONS(GXU_REGISTER_REDUCTION)
#undef GXU_REGISTER_REDUCTION
#define GXU_REGISTER_REDUCTION_OF_ALL(name, stub)                                       \
  register_reduction<at::_ops::name, &extremum_of_all<at::_ops::name, at::native::stub, \
                                                      static_cast<at::_ops::name::schema*>(&at::cpu::name)>>(library);
  GXU_REDUCTIONS_OF_ALL(GXU_REGISTER_REDUCTION_OF_ALL)
#undef GXU_REGISTER_REDUCTION_OF_ALL
}

}  // namespace
}  // namespace gxu

namespace at::native {

#define GXU_REGISTER_LOOP(stub, ...) REGISTER_PRIVATEUSE1_DISPATCH(stub, (&gxu::run_cpu_loop<stub, __VA_ARGS__>))
GXU_REGISTER_LOOP(sum_stub, TensorIterator&)
GXU_REGISTER_LOOP(prod_stub, TensorIterator&)
GXU_REGISTER_LOOP(max_values_stub, TensorIterator&)
GXU_REGISTER_LOOP(min_values_stub, TensorIterator&)
GXU_REGISTER_LOOP(argmax_stub, TensorIterator&)
GXU_REGISTER_LOOP(argmin_stub, TensorIterator&)
GXU_REGISTER_LOOP(arange_stub, TensorIterator&, const Scalar&, const Scalar&, const Scalar&)
#undef GXU_REGISTER_LOOP

}  // namespace at::native
