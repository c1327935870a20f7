// The parts of batch normalization over several processes (torch.nn.SyncBatchNorm), which PyTorch has for CUDA alone.
// Statistics are per channel, dimension 1, double for a double input, float for others.
#include <ATen/TensorOperators.h>
#include <ATen/ops/var_mean.h>

#include <numeric>
#include <vector>

#include "own_operator.h"

namespace gxu {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Tensors2 = std::tuple<Tensor, Tensor>;
using Tensors4 = std::tuple<Tensor, Tensor, Tensor, Tensor>;

bool is_given(const MaybeTensor& tensor) { return tensor && tensor->defined(); }

at::ScalarType statistics_type(const Tensor& input) {
  return input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// All dimensions but that of the channels.
std::vector<int64_t> reduced_dims(const Tensor& input) {
  TORCH_CHECK(input.dim() >= 2, "expected an input of at least two dimensions, batch and channels, but got ",
              input.dim(), "D");
  std::vector<int64_t> dims(static_cast<size_t>(input.dim()));
  std::iota(dims.begin(), dims.end(), 0);
  dims.erase(dims.begin() + 1);
  return dims;
}

// A value per channel, [C], in a shape that broadcasts over the input.
Tensor per_channel(const Tensor& values, const Tensor& input) {
  std::vector<int64_t> shape(static_cast<size_t>(input.dim()), 1);
  shape[1] = values.numel();
  return values.view(shape);
}

Tensors2 batch_norm_stats(const Tensor& input, double eps) {
  const auto [variance, mean] = at::var_mean(input.to(statistics_type(input)), reduced_dims(input), /*correction=*/0);
  return {mean, (variance + eps).rsqrt()};
}

Tensor batch_norm_elemt(const Tensor& input, const MaybeTensor& weight, const MaybeTensor& bias, const Tensor& mean,
                        const Tensor& invstd, double /*eps*/) {
  Tensor result = (input.to(mean.scalar_type()) - per_channel(mean, input)) * per_channel(invstd, input);
  if (is_given(weight)) {
    result = result * per_channel(*weight, input);
  }
  if (is_given(bias)) {
    result = result + per_channel(*bias, input);
  }
  return result.to(input.scalar_type());
}

Tensor& batch_norm_elemt_out(const Tensor& input, const MaybeTensor& weight, const MaybeTensor& bias,
                             const Tensor& mean, const Tensor& invstd, double eps, Tensor& out) {
  const Tensor result = gxu::batch_norm_elemt(input, weight, bias, mean, invstd, eps);
  out.resize_(result.sizes(), result.suggest_memory_format());
  return out.copy_(result);
}

// Chan's formula for the mean and variance of samples that were measured in parts. means, invstds [parts, C],
// counts [parts].
Tensors2 batch_norm_gather_stats_with_counts(const Tensor& /*input*/, const Tensor& means, const Tensor& invstds,
                                             const MaybeTensor& running_mean, const MaybeTensor& running_var,
                                             double momentum, double eps, const Tensor& counts) {
  const Tensor weights = counts.to(means.scalar_type()).unsqueeze(1);
  const Tensor count = weights.sum();
  const Tensor mean = (means * weights).sum(0) / count;
  const Tensor deviation = means - mean;
  const Tensor variances = invstds.pow(-2) - eps;
  const Tensor squares = ((variances + deviation * deviation) * weights).sum(0);
  if (is_given(running_mean)) {
    running_mean->lerp_(mean.to(running_mean->scalar_type()), momentum);
  }
  if (is_given(running_var)) {
    running_var->lerp_((squares / (count - 1)).to(running_var->scalar_type()), momentum);
  }
  return {mean, (squares / count + eps).rsqrt()};
}

Tensors2 batch_norm_gather_stats(const Tensor& input, const Tensor& means, const Tensor& invstds,
                                 const MaybeTensor& running_mean, const MaybeTensor& running_var, double momentum,
                                 double eps, int64_t count) {
  const Tensor counts = means.new_full({means.size(0)}, count);
  return gxu::batch_norm_gather_stats_with_counts(input, means, invstds, running_mean, running_var, momentum, eps,
                                                  counts);
}

// The sums over this process's part of grad and of grad * (input - mean), and the gradients of weight and bias.
Tensors4 batch_norm_backward_reduce(const Tensor& grad, const Tensor& input, const Tensor& mean, const Tensor& invstd,
                                    const MaybeTensor& weight, bool needs_input, bool needs_weight, bool needs_bias) {
  const at::ScalarType dtype = mean.scalar_type();
  const Tensor grad_values = grad.to(dtype);
  const Tensor sum = grad_values.sum(reduced_dims(input));
  const Tensor product = (grad_values * (input.to(dtype) - per_channel(mean, input))).sum(reduced_dims(input));
  const at::ScalarType weight_type = is_given(weight) ? weight->scalar_type() : dtype;
  return {needs_input ? sum : Tensor(), needs_input ? product : Tensor(),
          needs_weight ? (product * invstd).to(weight_type) : Tensor(), needs_bias ? sum.to(weight_type) : Tensor()};
}

// `sum`, `product`: of all processes, whose numbers of samples are `counts`.
Tensor batch_norm_backward_elemt(const Tensor& grad, const Tensor& input, const Tensor& mean, const Tensor& invstd,
                                 const MaybeTensor& weight, const Tensor& sum, const Tensor& product,
                                 const Tensor& counts) {
  const at::ScalarType dtype = mean.scalar_type();
  const Tensor count = counts.sum();
  const Tensor scale = is_given(weight) ? invstd * *weight : invstd;
  const Tensor slope = invstd * invstd * product / count;
  const Tensor centred = input.to(dtype) - per_channel(mean, input);
  return ((grad.to(dtype) - per_channel(sum / count, input) - centred * per_channel(slope, input)) *
          per_channel(scale, input))
      .to(input.scalar_type());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  implement(library, "batch_norm_stats", &batch_norm_stats);
  implement(library, "batch_norm_elemt", &batch_norm_elemt);
  implement(library, "batch_norm_elemt.out", &batch_norm_elemt_out);
  implement(library, "batch_norm_gather_stats", &batch_norm_gather_stats);
  implement(library, "batch_norm_gather_stats_with_counts", &batch_norm_gather_stats_with_counts);
  implement(library, "batch_norm_backward_reduce", &batch_norm_backward_reduce);
  implement(library, "batch_norm_backward_elemt", &batch_norm_backward_elemt);
}

}  // namespace
}  // namespace gxu
