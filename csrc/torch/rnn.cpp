// LSTM and GRU cells. PyTorch routes those of out-of-tree devices to fused cells, which CPU lacks; here they are a few
// CPU operators over aliases. The layout of the workspace is private to a cell and its backward.
#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include "delegate_call.h"
#include "own_operator.h"

namespace gxu {
namespace {

using Tensors2 = std::tuple<at::Tensor, at::Tensor>;
using Tensors3 = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Tensors5 = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

at::Tensor through_sigmoid(const at::Tensor& grad, const at::Tensor& output) { return grad * output * (1 - output); }
at::Tensor through_tanh(const at::Tensor& grad, const at::Tensor& output) { return grad * (1 - output * output); }

// Side by side, along the gates' dimension.
at::Tensor concatenate(std::initializer_list<at::Tensor> parts) { return at::cat(at::TensorList(parts), 1); }

at::Tensor add_bias(const at::Tensor& gates, const std::optional<at::Tensor>& bias) {
  return bias && bias->defined() ? gates + *bias : gates;
}

// Gates in the order input, forget, cell, output; workspace [N, 4H]: the activated gates.
Tensors3 lstm_cell(const at::Tensor& input_gates, const at::Tensor& hidden_gates, const at::Tensor& cx,
                   const std::optional<at::Tensor>& input_bias, const std::optional<at::Tensor>& hidden_bias) {
  return call_on_cpu(input_gates, [&](auto cpu) -> Tensors3 {
    const auto gates = add_bias(cpu(input_gates), cpu(input_bias)) + add_bias(cpu(hidden_gates), cpu(hidden_bias));
    const auto parts = gates.chunk(4, 1);
    const auto input = parts[0].sigmoid();
    const auto forget = parts[1].sigmoid();
    const auto cell = parts[2].tanh();
    const auto output = parts[3].sigmoid();
    const auto cy = forget * cpu(cx) + input * cell;
    return {output * cy.tanh(), cy, concatenate({input, forget, cell, output})};
  });
}

Tensors3 lstm_cell_backward(const std::optional<at::Tensor>& grad_hy, const std::optional<at::Tensor>& grad_cy,
                            const at::Tensor& cx, const at::Tensor& cy, const at::Tensor& workspace, bool has_bias) {
  return call_on_cpu(workspace, [&](auto cpu) -> Tensors3 {
    const auto cell_state = cpu(cy);
    const auto or_zeros = [&](const std::optional<at::Tensor>& grad) {
      return grad && grad->defined() ? cpu(*grad) : at::zeros_like(cell_state);
    };
    const auto parts = cpu(workspace).chunk(4, 1);
    const at::Tensor &input = parts[0], &forget = parts[1], &cell = parts[2], &output = parts[3];
    const auto grad_h = or_zeros(grad_hy);
    const auto tanh_cy = cell_state.tanh();
    const auto grad_c = or_zeros(grad_cy) + through_tanh(grad_h * output, tanh_cy);
    const auto grad_gates =
        concatenate({through_sigmoid(grad_c * cell, input), through_sigmoid(grad_c * cpu(cx), forget),
                     through_tanh(grad_c * input, cell), through_sigmoid(grad_h * tanh_cy, output)});
    return {grad_gates, grad_c * forget, has_bias ? grad_gates.sum(0) : at::Tensor()};
  });
}

// Gates in the order reset, update, new; workspace [N, 5H]: the activated gates, hx and the hidden part of the new
// gate.
Tensors2 gru_cell(const at::Tensor& input_gates, const at::Tensor& hidden_gates, const at::Tensor& hx,
                  const std::optional<at::Tensor>& input_bias, const std::optional<at::Tensor>& hidden_bias) {
  return call_on_cpu(input_gates, [&](auto cpu) -> Tensors2 {
    const auto input = add_bias(cpu(input_gates), cpu(input_bias)).chunk(3, 1);
    const auto hidden = add_bias(cpu(hidden_gates), cpu(hidden_bias)).chunk(3, 1);
    const auto state = cpu(hx);
    const auto reset = (input[0] + hidden[0]).sigmoid();
    const auto update = (input[1] + hidden[1]).sigmoid();
    const auto fresh = (input[2] + reset * hidden[2]).tanh();
    return {fresh + update * (state - fresh), concatenate({reset, update, fresh, state, hidden[2]})};
  });
}

Tensors5 gru_cell_backward(const at::Tensor& grad_hy, const at::Tensor& workspace, bool has_bias) {
  return call_on_cpu(workspace, [&](auto cpu) -> Tensors5 {
    const auto grad = cpu(grad_hy);
    const auto parts = cpu(workspace).chunk(5, 1);
    const at::Tensor &reset = parts[0], &update = parts[1], &fresh = parts[2], &state = parts[3], &hidden = parts[4];
    const auto grad_fresh = through_tanh(grad * (1 - update), fresh);
    const auto grad_reset = through_sigmoid(grad_fresh * hidden, reset);
    const auto grad_update = through_sigmoid(grad * (state - fresh), update);
    const auto grad_input = concatenate({grad_reset, grad_update, grad_fresh});
    const auto grad_hidden = concatenate({grad_reset, grad_update, grad_fresh * reset});
    return {grad_input, grad_hidden, grad * update, has_bias ? grad_input.sum(0) : at::Tensor(),
            has_bias ? grad_hidden.sum(0) : at::Tensor()};
  });
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  implement(library, "_thnn_fused_lstm_cell", &lstm_cell);
  implement(library, "_thnn_fused_lstm_cell_backward_impl", &lstm_cell_backward);
  implement(library, "_thnn_fused_gru_cell", &gru_cell);
  implement(library, "_thnn_fused_gru_cell_backward", &gru_cell_backward);
}

}  // namespace
}  // namespace gxu
