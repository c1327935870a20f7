// Convolutions. PyTorch's own kernel of aten::convolution brings operands of out-of-tree devices to the contiguous
// format, and routes them to "overrideable" operators, which CPU lacks: gxu replaces it.
//
// Results are channels-last where the input or the weight is, as the CPU's are. Compiled code asserts that:
// gxu/compat.py tells it to PyTorch's shape functions, which take results of convolutions on out-of-tree devices for
// contiguous.
#include <ATen/TracerMode.h>
#include <ATen/ops/_convolution.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>

#include "delegate_call.h"
#include "own_operator.h"

namespace gxu {
namespace {

// Of results with as many dimensions; contiguous for others. PyTorch's shape functions take a 1-D convolution for a 2-D
// one of a contiguous input, so that the weight alone decides.
at::MemoryFormat result_format(const at::Tensor& input, const at::Tensor& weight) {
  if (weight.dim() == 3) {
    return weight.unsqueeze(2).suggest_memory_format();
  }
  const at::MemoryFormat format = input.suggest_memory_format();
  return format == at::MemoryFormat::Contiguous ? weight.suggest_memory_format() : format;
}

at::Tensor in_format(const at::Tensor& result, at::MemoryFormat format) {
  if (result.defined() && result.dim() == 3) {
    return result.unsqueeze(2).contiguous(format).squeeze(2);
  }
  return result.defined() ? result.contiguous(format) : result;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  // torch.jit.trace records aten::_convolution, and leaves that to PyTorch's kernel of this operator. The flags at the
  // end are cuDNN's, by its defaults.
  if (at::tracer::impl::is_dispatch_enabled()) {
    return at::_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
                            /*benchmark=*/false, /*deterministic=*/false, /*cudnn_enabled=*/true, /*allow_tf32=*/true);
  }
  const at::MemoryFormat format = result_format(input, weight);
  if (GraphWork* work = current_capture(input.device().index())) {
    return std::get<0>(capture_results<1>(*work, format, "aten::convolution", input, weight, bias, stride, padding,
                                          dilation, transposed, output_padding, groups));
  }
  return call_on_cpu(input, [&](auto cpu) {
    return in_format(at::convolution(cpu(input), cpu(weight), cpu(bias), stride, padding, dilation, transposed,
                                     output_padding, groups),
                     format);
  });
}

// The flags are cuDNN's.
at::Tensor _convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                        at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                        at::IntArrayRef output_padding, int64_t groups, bool /*benchmark*/, bool /*deterministic*/,
                        bool /*cudnn_enabled*/, bool /*allow_tf32*/) {
  return gxu::convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> output_mask) {
  const at::MemoryFormat format = result_format(input, weight);
  if (GraphWork* work = current_capture(input.device().index())) {
    return capture_results<3>(*work, format, "aten::convolution_backward", grad_output, input, weight, bias_sizes,
                              stride, padding, dilation, transposed, output_padding, groups, output_mask);
  }
  return call_on_cpu(input, [&](auto cpu) {
    auto [grad_input, grad_weight, grad_bias] =
        at::convolution_backward(cpu(grad_output), cpu(input), cpu(weight), bias_sizes, stride, padding, dilation,
                                 transposed, output_padding, groups, output_mask);
    return std::make_tuple(in_format(grad_input, format), in_format(grad_weight, format), grad_bias);
  });
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  implement(library, "convolution", &gxu::convolution);
  implement(library, "_convolution", &_convolution);
  implement(library, "convolution_backward", &gxu::convolution_backward);
}

}  // namespace
}  // namespace gxu
