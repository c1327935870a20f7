// Operators on elements whose CPU kernels serve gxu tensors as they are (elementwise_call.h). An operator belongs here
// if its structured kernel is a TensorIterator and its loop is chosen by the iterator's device.
#include <ATen/CPUFunctions.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/Operators.h>
#include <c10/core/DynamicCast.h>
#include <torch/library.h>

#include <string>

#include "elementwise_call.h"

namespace gxu {
namespace {

// clang-format off
// _(operator, structured kernel)
#define GXU_ELEMENTWISE_OPERATORS(_) \
  _(add_Tensor, ufunc_add_CPU) \
  _(add__Tensor, ufunc_add_CPU) \
  _(sub_Tensor, sub_out) \
  _(sub__Tensor, sub_out) \
  _(mul_Tensor, mul_out) \
  _(mul__Tensor, mul_out) \
  _(div_Tensor, div_out) \
  _(div__Tensor, div_out) \
  _(div_Tensor_mode, div_out_mode) \
  _(remainder_Tensor, remainder_out) \
  _(maximum, maximum_out) \
  _(minimum, minimum_out) \
  _(pow_Tensor_Scalar, pow_Tensor_Scalar_out) \
  _(pow_Tensor_Tensor, pow_Tensor_Tensor_out) \
  _(addcmul, addcmul_out) \
  _(addcmul_, addcmul_out) \
  _(addcdiv, addcdiv_out) \
  _(addcdiv_, addcdiv_out) \
  _(lerp_Scalar, lerp_Scalar) \
  _(lerp__Scalar, lerp_Scalar) \
  _(lerp_Tensor, lerp_Tensor) \
  _(lerp__Tensor, lerp_Tensor) \
  _(eq_Tensor, eq_Tensor_out) \
  _(eq_Scalar, eq_Scalar_out) \
  _(ne_Tensor, ne_Tensor_out) \
  _(ne_Scalar, ne_Scalar_out) \
  _(lt_Tensor, lt_Tensor_out) \
  _(lt_Scalar, lt_Scalar_out) \
  _(le_Tensor, le_Tensor_out) \
  _(le_Scalar, le_Scalar_out) \
  _(gt_Tensor, gt_Tensor_out) \
  _(gt_Scalar, gt_Scalar_out) \
  _(ge_Tensor, ge_Tensor_out) \
  _(ge_Scalar, ge_Scalar_out) \
  _(bitwise_and_Tensor, bitwise_and_out) \
  _(bitwise_or_Tensor, bitwise_or_out) \
  _(bitwise_not, bitwise_not_out) \
  _(neg, neg_out) \
  _(neg_, neg_out) \
  _(exp, exp_out) \
  _(exp_, exp_out) \
  _(log, log_out) \
  _(log2, log2_out) \
  _(log1p, log1p_out) \
  _(expm1, expm1_out) \
  _(sqrt, sqrt_out) \
  _(sqrt_, sqrt_out) \
  _(rsqrt, rsqrt_out) \
  _(reciprocal, reciprocal_out) \
  _(sin, sin_out) \
  _(cos, cos_out) \
  _(tanh, tanh_out) \
  _(tanh_, tanh_out) \
  _(sigmoid, sigmoid_out) \
  _(sigmoid_, sigmoid_out) \
  _(erf, erf_out) \
  _(floor, floor_out) \
  _(ceil, ceil_out) \
  _(round, round_out) \
  _(sign, sign_out) \
  _(silu, silu_out) \
  _(silu_, silu_out) \
  _(leaky_relu, leaky_relu_out) \
  _(leaky_relu_, leaky_relu_out) \
  _(elu, elu_out) \
  _(softplus, softplus_out) \
  _(hardsigmoid, hardsigmoid_out) \
  _(clamp, clamp_out) \
  _(clamp_, clamp_out) \
  _(clamp_min, clamp_min_out) \
  _(clamp_min_, clamp_min_out) \
  _(clamp_max, clamp_max_out) \
  _(clamp_max_, clamp_max_out) \
  _(threshold_backward, threshold_backward_out) \
  _(silu_backward, silu_backward_out) \
  _(tanh_backward, tanh_backward_out) \
  _(sigmoid_backward, sigmoid_backward_out) \
  _(leaky_relu_backward, leaky_relu_backward_out) \
  _(_softmax, softmax_cpu_out) \
  _(_softmax_backward_data, softmax_backward_cpu_out) \
  _(_log_softmax, log_softmax_cpu_out) \
  _(_log_softmax_backward_data, log_softmax_backward_cpu_out)
// clang-format on

// relu is no structured kernel, but nothing else than this one.
at::Tensor relu(const at::Tensor& self) {
  if (C10_UNLIKELY(self.scalar_type() == at::kBool)) {
    return DirectCall<at::_ops::relu>::call(self);
  }
  return ElementwiseCall<at::_ops::clamp_min, at::native::structured_clamp_min_out>::call(self, 0);
}

at::Tensor& relu_(at::Tensor& self) {
  if (C10_UNLIKELY(self.scalar_type() == at::kBool)) {
    return DirectCall<at::_ops::relu_>::call(self);
  }
  return ElementwiseCall<at::_ops::clamp_min_, at::native::structured_clamp_min_out>::call(self, 0);
}

// An iterator, too, over the elements that the indices name.
at::Tensor index(const at::Tensor& self, const c10::List<std::optional<at::Tensor>>& indices) {
  SimpleDevice operands(nullptr);
  operands.check(self, false);
  for (const std::optional<at::Tensor>& index : indices) {
    if (index && index->defined()) {
      operands.check(*index, false);
      if (!is_gxu(*index)) {
        operands.reject();
      }
    }
  }
  const c10::DeviceIndex device = operands.index();
  if (C10_UNLIKELY(device < 0 || device_delegate(device) != Delegate::kCpu || current_capture(device) != nullptr)) {
    return DirectCall<at::_ops::index_Tensor>::call(self, indices);
  }
  const PlainAccess access(device);
  NewResultKernel<at::native::structured_index_out> kernel;
  const auto geometry = kernel.meta(self, at::IOptTensorListRef(indices));
  kernel.label_as_cpu();
  kernel.impl(self, geometry.sizes, geometry.strides, kernel.output());
  return std::move(kernel.output());
}

// float32 that is multiplied in bfloat16 or TF32, where these are asked for, is oneDNN's, which takes CPU tensors only;
// so are 16-bit types.
bool is_product_without_onednn(const at::Tensor& self) {
  if (self.scalar_type() != at::kFloat) {
    return self.scalar_type() == at::kDouble;
  }
  const at::Float32Precision precision =
      at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL);
  return precision != at::Float32Precision::BF16 && precision != at::Float32Precision::TF32;
}

// The structured kernels of products are no iterators, and hand pointers to BLAS.
at::Tensor mm(const at::Tensor& self, const at::Tensor& mat2) {
  if (C10_LIKELY(is_product_without_onednn(self))) {
    return ElementwiseCall<at::_ops::mm, at::native::structured_mm_out_cpu>::call(self, mat2);
  }
  return DirectCall<at::_ops::mm, &at::cpu::mm>::call(self, mat2);
}

at::Tensor bmm(const at::Tensor& self, const at::Tensor& mat2) {
  if (C10_LIKELY(is_product_without_onednn(self))) {
    return ElementwiseCall<at::_ops::bmm, at::native::structured_bmm_out_cpu>::call(self, mat2);
  }
  return DirectCall<at::_ops::bmm, &at::cpu::bmm>::call(self, mat2);
}

at::Tensor addmm(const at::Tensor& self, const at::Tensor& mat1, const at::Tensor& mat2, const at::Scalar& beta,
                 const at::Scalar& alpha) {
  if (C10_LIKELY(is_product_without_onednn(mat1))) {
    using Structured = at::native::structured_addmm_out_cpu;
    return ElementwiseCall<at::_ops::addmm, Structured>::call(self, mat1, mat2, beta, alpha);
  }
  return DirectCall<at::_ops::addmm, &at::cpu::addmm>::call(self, mat1, mat2, beta, alpha);
}

// oneDNN's where the CPU would use it, which takes CPU tensors only.
at::Tensor gelu(const at::Tensor& self, c10::string_view approximate) {
  if (self.numel() <= 1 || !self.is_contiguous() || self.scalar_type() == at::kDouble) {
    return ElementwiseCall<at::_ops::gelu, at::native::structured_gelu_out_cpu>::call(self, approximate);
  }
  return DirectCall<at::_ops::gelu, &at::cpu::gelu>::call(self, approximate);
}

template <typename Operator, typename Structured>
void register_elementwise(torch::Library& library) {
  std::string name = Operator::name;
  if (*Operator::overload_name != '\0') {
    name += std::string(".") + Operator::overload_name;
  }
  library.impl(name.c_str(), &ElementwiseCall<Operator, Structured>::call);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
#define GXU_REGISTER_ELEMENTWISE(name, kernel) \
  register_elementwise<at::_ops::name, at::native::structured_##kernel>(library);
  GXU_ELEMENTWISE_OPERATORS(GXU_REGISTER_ELEMENTWISE)
#undef GXU_REGISTER_ELEMENTWISE
  library.impl("index.Tensor", &index);
  library.impl("mm", &mm);
  library.impl("gelu", &gelu);
  library.impl("bmm", &bmm);
  library.impl("addmm", &addmm);
  library.impl("relu", &relu);
  library.impl("relu_", &relu_);
}

}  // namespace

bool convert_number(at::OperandInfo& operand, c10::ScalarType dtype) {
  const at::TensorBase& number = operand.tensor_base();
  if (!number.is_cpu() || number.dim() != 0) {
    return false;
  }
  const c10::ScalarType from = number.scalar_type();
  const void* value = number.const_data_ptr();
  at::TensorBase converted = at::detail::empty_cpu({}, dtype);
  void* data = converted.mutable_data_ptr();
  if (c10::isIntegralType(from, /*includeBool=*/true)) {
    c10::cast_and_store<int64_t>(dtype, data, c10::fetch_and_cast<int64_t>(from, value));
  } else if (from == c10::ScalarType::Double || from == c10::ScalarType::Float) {
    c10::cast_and_store<double>(dtype, data, c10::fetch_and_cast<double>(from, value));
  } else {
    return false;
  }
  operand.exchange_tensor(c10::MaybeOwned<at::TensorBase>::owned(std::move(converted)));
  operand.data = data;
  operand.current_dtype = dtype;
  operand.target_dtype = dtype;
  return true;
}

}  // namespace gxu
