// Operators of small models, whose calls cost what they cost on the CPU: kernels that need no boxing (direct_call.h).
//
// An operator belongs here if the CPU has a kernel of its own for it, and it neither draws random numbers nor takes a
// device, a generator or a list of tensors: those are the boxed delegate's.
#include <ATen/Operators.h>
#include <torch/library.h>

#include <string>

#include "direct_call.h"

namespace gxu {
namespace {

// clang-format off
#define GXU_DIRECT_OPERATORS(_) \
  _(add_Tensor) \
  _(add__Tensor) \
  _(add_out) \
  _(sub_Tensor) \
  _(sub__Tensor) \
  _(sub_out) \
  _(mul_Tensor) \
  _(mul__Tensor) \
  _(mul_out) \
  _(div_Tensor) \
  _(div__Tensor) \
  _(div_out) \
  _(div_Tensor_mode) \
  _(floor_divide) \
  _(remainder_Tensor) \
  _(maximum) \
  _(minimum) \
  _(pow_Tensor_Scalar) \
  _(pow_Tensor_Tensor) \
  _(addcmul) \
  _(addcmul_) \
  _(addcmul_out) \
  _(addcdiv) \
  _(addcdiv_) \
  _(addcdiv_out) \
  _(lerp_Scalar) \
  _(lerp__Scalar) \
  _(lerp_Tensor) \
  _(lerp__Tensor) \
  _(where_self) \
  _(eq_Tensor) \
  _(eq_Scalar) \
  _(ne_Tensor) \
  _(ne_Scalar) \
  _(lt_Tensor) \
  _(lt_Scalar) \
  _(le_Tensor) \
  _(le_Scalar) \
  _(gt_Tensor) \
  _(gt_Scalar) \
  _(ge_Tensor) \
  _(ge_Scalar) \
  _(bitwise_and_Tensor) \
  _(bitwise_or_Tensor) \
  _(bitwise_not) \
  _(logical_and_out) \
  _(logical_not_out) \
  _(neg) \
  _(abs_out) \
  _(exp) \
  _(exp_) \
  _(log) \
  _(log2) \
  _(log1p) \
  _(expm1) \
  _(sqrt) \
  _(sqrt_) \
  _(rsqrt) \
  _(reciprocal) \
  _(sin) \
  _(cos) \
  _(tanh) \
  _(tanh_) \
  _(sigmoid) \
  _(sigmoid_) \
  _(erf) \
  _(floor) \
  _(ceil) \
  _(round) \
  _(sign) \
  _(relu) \
  _(relu_) \
  _(gelu) \
  _(silu) \
  _(silu_) \
  _(leaky_relu) \
  _(elu) \
  _(softplus) \
  _(hardtanh) \
  _(hardswish) \
  _(hardsigmoid) \
  _(clamp) \
  _(clamp_) \
  _(clamp_min) \
  _(clamp_max) \
  _(masked_fill__Scalar) \
  _(fill__Scalar) \
  _(zero_) \
  _(_local_scalar_dense) \
  _(sum_dim_IntList) \
  _(mean_dim) \
  _(amax) \
  _(amin) \
  _(argmax) \
  _(argmin) \
  _(max_dim) \
  _(min_dim) \
  _(any) \
  _(all) \
  _(any_dim) \
  _(all_dim) \
  _(var_correction) \
  _(std_correction) \
  _(cumsum) \
  _(linalg_vector_norm) \
  _(_softmax) \
  _(_softmax_backward_data) \
  _(_log_softmax) \
  _(_log_softmax_backward_data) \
  _(native_layer_norm) \
  _(native_layer_norm_backward) \
  _(native_batch_norm) \
  _(native_batch_norm_backward) \
  _(native_group_norm) \
  _(threshold_backward) \
  _(gelu_backward) \
  _(silu_backward) \
  _(tanh_backward) \
  _(sigmoid_backward) \
  _(leaky_relu_backward) \
  _(nll_loss_forward) \
  _(nll_loss_backward) \
  _(mse_loss) \
  _(mse_loss_backward) \
  _(embedding_dense_backward) \
  _(mm) \
  _(mm_out) \
  _(addmm) \
  _(addmm_) \
  _(addmm_out) \
  _(bmm) \
  _(bmm_out) \
  _(baddbmm) \
  _(baddbmm_) \
  _(index_select) \
  _(gather) \
  _(scatter_add) \
  _(tril) \
  _(triu) \
  _(arange_start_out)
// clang-format on

template <typename Operator>
void register_direct(torch::Library& library) {
  std::string name = Operator::name;
  if (*Operator::overload_name != '\0') {
    name += std::string(".") + Operator::overload_name;
  }
  library.impl(name.c_str(), &DirectCall<Operator>::call);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
#define GXU_REGISTER_DIRECT(name) register_direct<at::_ops::name>(library);
  GXU_DIRECT_OPERATORS(GXU_REGISTER_DIRECT)
#undef GXU_REGISTER_DIRECT
}

}  // namespace
}  // namespace gxu
