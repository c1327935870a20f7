// Operators on elements without aliases (direct_call.h) and without a second dispatch: the CPU's kernel of such an
// operator is a structured kernel, a TensorIterator that works out the result's geometry and then hands pointers to a
// vectorised loop. Where the CPU reaches a device's memory, the same object serves gxu tensors: gxu allocates the
// result, and the loop is asked for as the CPU's. `ElementwiseCall<at::_ops::add_Tensor, Structured>::call` is a kernel
// for gxu with add.Tensor's signature. Structured kernels that are no iterators may be used, too, if they ask for the
// CPU's loops whatever the device is (softmax).
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/TensorIterator.h>
#include <c10/core/Scalar.h>

#include <array>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "allocator.h"
#include "direct_call.h"
#include "plain_access.h"
#include "torch_compat.h"

namespace gxu {

// Makes an operand that is a number on the CPU, as in `x + 1`, one of the type that the loop computes in. False where
// it is something else.
bool convert_number(at::OperandInfo& operand, c10::ScalarType dtype);

// What every structured kernel on elements has in common.
template <typename Structured>
class ElementwiseKernel : public Structured {
 public:
  // After meta(): makes the iterator one of the CPU's. False where its operands want a conversion that only the
  // iterator's own preparation for the CPU makes.
  bool prepare_for_cpu() {
    if constexpr (std::is_base_of_v<at::TensorIteratorBase, Structured>) {
      for (at::OperandInfo& operand : this->operands_) {
        if (C10_UNLIKELY(!operand.is_output && this->common_dtype_ != c10::ScalarType::Undefined &&
                         operand.current_dtype != this->common_dtype_) &&
            !convert_number(operand, this->common_dtype_)) {
          return false;
        }
      }
      label_as_cpu();
    }
    return true;
  }
  void label_as_cpu() {
    for (at::OperandInfo& operand : this->operands_) {
      operand.device = c10::Device(c10::DeviceType::CPU);
    }
  }
};

// Memory of the current device for a result. `strides`: empty for a dense one in the memory format of `options`.
inline at::Tensor allocate_result(at::IntArrayRef sizes, const at::TensorOptions& options,
                                  at::IntArrayRef strides = {}) {
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  const auto dtype = c10::typeMetaToScalarType(options.dtype());
  c10::Allocator* allocator = &CachingAllocator::instance();
  return strides.empty() ? at::detail::empty_generic(sizes, allocator, keys, dtype, options.memory_format_opt())
                         : at::detail::empty_strided_generic(sizes, strides, allocator, keys, dtype);
}

// Allocates the result.
template <typename Structured>
class NewResultKernel final : public ElementwiseKernel<Structured> {
 public:
  at::Tensor& output() { return result_; }
  const at::Tensor& maybe_get_output(int64_t /*index*/) override { return result_; }
  void set_output_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                          at::TensorOptions options GXU_OUTPUT_NAMES) override {
    set_output_raw_strided(index, sizes, strides, options GXU_PASS_OUTPUT_NAMES);
  }
  void set_output_raw_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                              at::TensorOptions options GXU_OUTPUT_NAMES) override {
    result_ = allocate_result(sizes, options, strides);
    if constexpr (std::is_base_of_v<at::TensorIteratorBase, Structured>) {
      Structured::set_output_raw_strided(index, sizes, strides, options GXU_PASS_OUTPUT_NAMES);
    }
  }

 private:
  at::Tensor result_;
};

// Allocates two results of a kernel that is no iterator.
template <typename Structured>
class NewResultsKernel final : public Structured {
 public:
  const at::Tensor& maybe_get_output(int64_t index) override { return results_[index]; }
  void set_output_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                          at::TensorOptions options GXU_OUTPUT_NAMES) override {
    set_output_raw_strided(index, sizes, strides, options GXU_PASS_OUTPUT_NAMES);
  }
  void set_output_raw_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                              at::TensorOptions options GXU_OUTPUT_NAMES) override {
    results_[index] = allocate_result(sizes, options, strides);
  }
  std::tuple<at::Tensor, at::Tensor> take() { return {std::move(results_[0]), std::move(results_[1])}; }

 private:
  std::array<at::Tensor, 2> results_;
};

// Writes the operator's first argument. The iterator rejects other geometries; other types of the result are left to
// the delegate, and its errors.
template <typename Structured>
class InPlaceKernel final : public ElementwiseKernel<Structured> {
 public:
  explicit InPlaceKernel(at::Tensor& self) : self_(self) {}

  at::Tensor& output() { return self_; }
  bool fits() const { return fits_; }
  const at::Tensor& maybe_get_output(int64_t /*index*/) override { return self_; }
  void set_output_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                          at::TensorOptions options GXU_OUTPUT_NAMES) override {
    fits_ = fits_ && self_.strides() == strides;
    set_output_raw_strided(index, sizes, strides, options GXU_PASS_OUTPUT_NAMES);
  }
  void set_output_raw_strided(int64_t index, at::IntArrayRef sizes, at::IntArrayRef strides,
                              at::TensorOptions options GXU_OUTPUT_NAMES) override {
    fits_ = fits_ && self_.sizes() == sizes && self_.dtype() == options.dtype();
    Structured::set_output_raw_strided(index, sizes, strides, options GXU_PASS_OUTPUT_NAMES);
  }

 private:
  at::Tensor& self_;
  bool fits_ = true;
};

// As SimpleDevice, for calls that one iterator can serve: the gxu tensors have one type of elements, too. Arguments
// that share the memory of the one that is written are the iterator's own business.
class ElementwiseDevice {
 public:
  void check(const at::Tensor& tensor) {
    device_.check(tensor, false);
    if (C10_LIKELY(is_gxu(tensor))) {
      const auto dtype = tensor.dtype();
      is_uniform_ = is_uniform_ && (dtype_ == caffe2::TypeMeta() || dtype_ == dtype);
      dtype_ = dtype;
    } else {
      is_uniform_ = is_uniform_ && tensor.defined();
      has_number_ = true;
    }
    ++num_tensors_;
  }
  template <typename T>
  void check(const T& /*not a tensor*/) {}

  // Negative where the call is another. An iterator for another device than the CPU takes a number on the CPU as one of
  // two operands, not of three.
  c10::DeviceIndex index() const { return is_uniform_ && (!has_number_ || num_tensors_ == 2) ? device_.index() : -1; }

 private:
  SimpleDevice device_{nullptr};
  caffe2::TypeMeta dtype_;
  bool is_uniform_ = true;
  bool has_number_ = false;
  int num_tensors_ = 0;
};

template <typename Operator, typename Structured, typename Schema = typename Operator::schema>
class ElementwiseCall;

template <typename Operator, typename Structured, typename Result, typename... Arguments>
class ElementwiseCall<Operator, Structured, Result(Arguments...)> {
 public:
  static Result call(Arguments... arguments) {
    ElementwiseDevice operands;
    (operands.check(arguments), ...);
    const c10::DeviceIndex device = operands.index();
    if (C10_LIKELY(device >= 0 && device_delegate(device) == Delegate::kCpu && current_capture(device) == nullptr)) {
      if constexpr (std::is_reference_v<Result>) {
        InPlaceKernel<Structured> kernel(first(arguments...));
        if (C10_LIKELY(is_gxu(kernel.output()) && run(kernel, device, arguments...))) {
          return kernel.output();
        }
      } else {
        NewResultKernel<Structured> kernel;
        if (C10_LIKELY(run(kernel, device, arguments...))) {
          return std::move(kernel.output());
        }
      }
    }
    return DirectCall<Operator>::call(std::forward<Arguments>(arguments)...);
  }

 private:
  template <typename First, typename... Rest>
  static First& first(First& value, Rest&... /*rest*/) {
    return value;
  }

  template <typename Kernel>
  static bool run(Kernel& kernel, c10::DeviceIndex device, const std::remove_reference_t<Arguments>&... arguments) {
    const DeviceScope scope(device);
    kernel.meta(as_passed(arguments)...);
    if (!kernel.prepare_for_cpu() || !fits(kernel)) {
      return false;
    }
    const PlainAccess access(device);
    kernel.impl(as_passed(arguments)..., kernel.output());
    return true;
  }

  static bool fits(const NewResultKernel<Structured>& /*kernel*/) { return true; }
  static bool fits(const InPlaceKernel<Structured>& kernel) { return kernel.fits(); }

  // Structured kernels take some arguments by other types than the operator's schema.
  template <typename T>
  static const T& as_passed(const T& argument) {
    return argument;
  }
  static at::OptionalScalarRef as_passed(const std::optional<at::Scalar>& argument) {
    return argument ? at::OptionalScalarRef(&*argument) : at::OptionalScalarRef();
  }
};

}  // namespace gxu
