// histc of integers, which torch.cuda has and the CPU does not: mixtures of experts count tokens with it.
#include <ATen/ops/histc.h>
#include <torch/library.h>

#include "delegate_call.h"

namespace gxu {
namespace {

at::Tensor histc(const at::Tensor& self, int64_t bins, const at::Scalar& min, const at::Scalar& max) {
  return call_on_cpu(self, [&](const CpuArgument& cpu) {
    const at::Tensor values = cpu(self);
    if (!at::isIntegralType(self.scalar_type(), /*includeBool=*/false)) {
      return at::histc(values, bins, min, max);
    }
    // float64 holds every integer up to 2^53; the counts have the type of the input, as torch.cuda's have.
    return at::histc(values.to(at::kDouble), bins, min, max).to(self.scalar_type());
  });
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) { library.impl("histc", &histc); }

}  // namespace
}  // namespace gxu
