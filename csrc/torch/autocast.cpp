// Automatic mixed precision: PyTorch's own lists of operators for each policy.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "torch_compat.h"

namespace gxu {
namespace {

// PyTorch's lists name these without their namespace.
using at::IntArrayRef;
using at::Scalar;
using at::ScalarType;
using at::Tensor;
#if !GXU_TORCH_HAS_GRAPHS
using at::DimnameList;
#endif

// As on CUDA: its result is not safe in half precision, and its input is most often one.
Tensor binary_cross_entropy_banned(const Tensor& /*self*/, const Tensor& /*target*/,
                                   const std::optional<Tensor>& /*weight*/, int64_t /*reduction*/) {
  TORCH_CHECK(false,
              "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
              "Use binary_cross_entropy_with_logits or BCEWithLogitsLoss, which take what comes before the sigmoid, "
              "or leave autocast for this call and give it float32 inputs.");
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

#define GXU_LOWER_PRECISION(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define GXU_FP32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define GXU_FP32_SET_OPT_DTYPE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define GXU_PROMOTE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(GXU_LOWER_PRECISION)
  AT_FORALL_FP32(GXU_FP32)
  AT_FORALL_FP32_SET_OPT_DTYPE(GXU_FP32_SET_OPT_DTYPE)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(GXU_PROMOTE)
  m.impl("binary_cross_entropy", &binary_cross_entropy_banned);
}

}  // namespace
}  // namespace gxu
