// scaled_dot_product_attention: the same choice of kernel as on the delegate, and so the delegate's fused kernels on
// aliases of gxu memory.
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/_fused_sdp_choice_native.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <torch/library.h>

#include <array>
#include <tuple>

#include "cuda_delegate.h"
#include "device.h"

namespace gxu {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

int64_t choice_on_cuda(const Tensor& query, const Tensor& key, const Tensor& value, const MaybeTensor& attn_mask,
                       double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  using sdp::SDPBackend;
  if (query.is_nested() || key.is_nested() || value.is_nested()) {
    return static_cast<int64_t>(SDPBackend::math);
  }
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::_fused_sdp_choice", "");
  const auto mask = attn_mask && attn_mask->defined() ? MaybeTensor(like_on_cuda(*attn_mask)) : std::nullopt;
  torch::jit::Stack stack{
      like_on_cuda(query), like_on_cuda(key), like_on_cuda(value), mask, dropout_p, is_causal, scale, enable_gqa};
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::Dense) | c10::DispatchKeySet(c10::BackendComponent::CUDABit),
                     &stack);
  const auto choice = static_cast<SDPBackend>(torch::jit::pop(stack).toInt());
  if (choice != SDPBackend::flash_attention) {
    return static_cast<int64_t>(choice);
  }
  // PyTorch calls CUDA's flash kernel, which wants heads of a multiple of 8, by name for its own devices alone; for
  // others it has the operators below.
  return static_cast<int64_t>(query.sym_size(-1) % 8 == 0 ? SDPBackend::overrideable : SDPBackend::math);
}

int64_t fused_sdp_choice(const Tensor& query, const Tensor& key, const Tensor& value, const MaybeTensor& attn_mask,
                         double dropout_p, bool is_causal, std::optional<double> scale, bool enable_gqa) {
  if (device_delegate(query.device().index()) == Delegate::kCuda) {
    return choice_on_cuda(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa);
  }
  // CUDA has three fused kernels, the CPU one, which is called flash attention. A script that allows only the two
  // others (torch.nn.attention.sdpa_kernel) gets the formula, where the CPU's choice would find no kernel.
  const auto& context = at::globalContext();
  if (!context.userEnabledFlashSDP() && (context.userEnabledMemEfficientSDP() || context.userEnabledCuDNNSDP())) {
    return static_cast<int64_t>(sdp::SDPBackend::math);
  }
  return at::native::_fused_sdp_choice_cpp(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa);
}

void check_is_on_cuda(const Tensor& query, const char* name) {
  TORCH_CHECK_NOT_IMPLEMENTED(device_delegate(query.device().index()) == Delegate::kCuda, name,
                              " is for devices whose operators run on PyTorch's cuda kernels; call "
                              "torch.nn.functional.scaled_dot_product_attention.");
}

auto flash_attention(const Tensor& query, const Tensor& key, const Tensor& value, const MaybeTensor& attn_bias,
                     double dropout_p, bool is_causal, bool return_debug_mask, std::optional<double> scale) {
  check_is_on_cuda(query, "_scaled_dot_product_fused_attention_overrideable");
  TORCH_CHECK_VALUE(!attn_bias || !attn_bias->defined(), "The flash kernel takes no mask.");
  return at::_scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, return_debug_mask, scale);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> flash_attention_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& /*attn_bias*/,
    std::array<bool, 4> /*grad_input_mask*/, const Tensor& out, const Tensor& logsumexp, const Tensor& cum_seq_q,
    const Tensor& cum_seq_k, c10::SymInt max_q, c10::SymInt max_k, double dropout_p, bool is_causal,
    const Tensor& philox_seed, const Tensor& philox_offset, std::optional<double> scale) {
  check_is_on_cuda(query, "_scaled_dot_product_fused_attention_overrideable_backward");
  auto [grad_query, grad_key, grad_value] = at::_scaled_dot_product_flash_attention_backward_symint(
      grad_out, query, key, value, out, logsumexp, cum_seq_q, cum_seq_k, std::move(max_q), std::move(max_k), dropout_p,
      is_causal, philox_seed, philox_offset, scale);
  return {grad_query, grad_key, grad_value, Tensor()};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_scaled_dot_product_fused_attention_overrideable", &flash_attention);
  library.impl("_scaled_dot_product_fused_attention_overrideable_backward", &flash_attention_backward);
}

}  // namespace
}  // namespace gxu

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &gxu::fused_sdp_choice)
}  // namespace at::native
