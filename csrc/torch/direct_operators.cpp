// Operators of small models, whose calls cost what they cost on the CPU: kernels that need no boxing (direct_call.h).
//
// An operator belongs here if the CPU has a kernel of its own for it, and it neither draws random numbers nor takes a
// device, a generator or a list of tensors that it writes: those are the boxed delegate's. Those that need no alias are
// in elementwise_operators.cpp, loop_operators.cpp and plain_kernels.cpp.
#include <ATen/CPUFunctions.h>
#include <ATen/Operators.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <string>

#include "direct_call.h"

namespace gxu {
namespace {

// clang-format off
// _(operator, function of at::cpu)
#define GXU_DIRECT_OPERATORS(_) \
  _(add_out, add_outf) \
  _(sub_out, sub_outf) \
  _(mul_out, mul_outf) \
  _(div_out, div_outf) \
  _(floor_divide, floor_divide) \
  _(addcmul_out, addcmul_outf) \
  _(addcdiv_out, addcdiv_outf) \
  _(where_self, where) \
  _(logical_and_out, logical_and_outf) \
  _(logical_not_out, logical_not_outf) \
  _(abs_out, abs_outf) \
  _(gelu_backward, gelu_backward) \
  _(hardtanh, hardtanh) \
  _(hardswish, hardswish) \
  _(masked_fill__Scalar, masked_fill_) \
  _(mean_dim, mean) \
  _(max_dim, max) \
  _(min_dim, min) \
  _(any, any) \
  _(all, all) \
  _(any_dim, any) \
  _(all_dim, all) \
  _(var_correction, var) \
  _(std_correction, std) \
  _(cumsum, cumsum) \
  _(linalg_vector_norm, linalg_vector_norm) \
  _(native_layer_norm_backward, native_layer_norm_backward_symint) \
  _(native_batch_norm_backward, native_batch_norm_backward) \
  _(native_group_norm, native_group_norm_symint) \
  _(nll_loss_backward, nll_loss_backward_symint) \
  _(mse_loss, mse_loss) \
  _(mse_loss_backward, mse_loss_backward) \
  _(embedding_dense_backward, embedding_dense_backward_symint) \
  _(mm_out, mm_outf) \
  _(addmm_, addmm_) \
  _(addmm_out, addmm_outf) \
  _(bmm_out, bmm_outf) \
  _(baddbmm, baddbmm) \
  _(baddbmm_, baddbmm_) \
  _(gather, gather) \
  _(scatter_add, scatter_add) \
  _(tril, tril_symint) \
  _(triu, triu_symint) \
  _(prod, prod) \
  _(topk, topk_symint) \
  _(sort_stable, sort) \
  _(addmv, addmv) \
  _(addmv_out, addmv_outf) \
  _(_stack, _stack) \
  _(_index_put_impl_, _index_put_impl_) \
  _(max_pool2d_with_indices, max_pool2d_with_indices) \
  _(max_pool2d_with_indices_backward, max_pool2d_with_indices_backward) \
  _(avg_pool2d, avg_pool2d) \
  _(avg_pool2d_backward, avg_pool2d_backward) \
  _(_adaptive_avg_pool2d, _adaptive_avg_pool2d_symint) \
  _(masked_fill__Tensor, masked_fill_) \
  _(fill__Tensor, fill_) \
  _(scatter_src, scatter) \
  _(scatter_value, scatter) \
  _(index_add, index_add) \
  _(flip, flip) \
  _(roll, roll_symint) \
  _(hardswish_backward, hardswish_backward) \
  _(cumprod, cumprod) \
  _(dot, dot) \
  _(isnan, isnan) \
  _(aminmax, aminmax) \
  _(native_group_norm_backward, native_group_norm_backward_symint) \
  _(glu, glu) \
  _(glu_backward, glu_backward) \
  _(upsample_nearest2d, upsample_nearest2d_symint) \
  _(hardtanh_backward, hardtanh_backward) \
  _(elu_backward, elu_backward) \
  _(softplus_backward, softplus_backward) \
  _(hardsigmoid_backward, hardsigmoid_backward) \
  _(binary_cross_entropy, binary_cross_entropy) \
  _(smooth_l1_loss, smooth_l1_loss) \
  _(var_mean_correction, var_mean) \
  _(std_mean_correction, std_mean)
// clang-format on

// PyTorch's own calls addmv.out with one tensor as argument and as result, which no alias is lent for.
at::Tensor mv(const at::Tensor& self, const at::Tensor& vec) {
  const at::Tensor ignored = at::empty({self.size(0)}, vec.options());
  return DirectCall<at::_ops::addmv, &at::cpu::addmv>::call(ignored, self, vec, 0, 1);
}

// The schema does not say that training updates the running statistics, whose memory lazy clones may share.
std::tuple<at::Tensor, at::Tensor, at::Tensor> native_batch_norm(const at::Tensor& input,
                                                                 const std::optional<at::Tensor>& weight,
                                                                 const std::optional<at::Tensor>& bias,
                                                                 const std::optional<at::Tensor>& running_mean,
                                                                 const std::optional<at::Tensor>& running_var,
                                                                 bool training, double momentum, double eps) {
  for (const auto* statistic : {&running_mean, &running_var}) {
    if (training && statistic->has_value() && (*statistic)->defined()) {
      (*statistic)->storage().mutable_data();
    }
  }
  return DirectCall<at::_ops::native_batch_norm, &at::cpu::native_batch_norm>::call(
      input, weight, bias, running_mean, running_var, training, momentum, eps);
}

template <typename Operator, auto kernel>
void register_direct(torch::Library& library) {
  std::string name = Operator::name;
  if (*Operator::overload_name != '\0') {
    name += std::string(".") + Operator::overload_name;
  }
  library.impl(name.c_str(), &DirectCall<Operator, kernel>::call);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
// The cast picks the overload.
#define GXU_REGISTER_DIRECT(name, function) \
  register_direct<at::_ops::name, static_cast<at::_ops::name::schema*>(&at::cpu::function)>(library);
  GXU_DIRECT_OPERATORS(GXU_REGISTER_DIRECT)
#undef GXU_REGISTER_DIRECT
  library.impl("mv", &mv);
  library.impl("native_batch_norm", &native_batch_norm);
}

}  // namespace
}  // namespace gxu
