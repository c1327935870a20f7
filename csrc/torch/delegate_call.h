// Helper of operators that gxu implements by other CPU operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>
#include <tuple>

#include "alias.h"
#include "copy.h"
#include "graph_capture.h"

namespace gxu {

// Gives the CPU tensor for an argument: an alias where the CPU reaches the device's memory, else a copy.
class CpuArgument {
 public:
  explicit CpuArgument(c10::Device device, bool aliases) : device_(device), aliases_(aliases) {}

  at::Tensor operator()(const at::Tensor& tensor) const {
    if (!tensor.defined()) {
      return tensor;
    }
    TORCH_CHECK(tensor.device() == device_ || (tensor.device().is_cpu() && tensor.dim() == 0),
                "Expected all tensors to be on the same device, but found at least two devices, ", device_, " and ",
                tensor.device(), "!");
    return !is_gxu(tensor) ? tensor : aliases_ ? alias_for_reading(tensor) : tensor.cpu();
  }
  std::optional<at::Tensor> operator()(const std::optional<at::Tensor>& tensor) const {
    return tensor ? std::optional<at::Tensor>((*this)(*tensor)) : std::nullopt;
  }

 private:
  c10::Device device_;
  bool aliases_;
};

// Calls `function(cpu)`, where `cpu(argument)` is the CPU form of a tensor argument, and returns its result, a tensor
// or a tuple of tensors, on the device of `self`. While a graph is captured, arguments stay as they are, so that the
// graph gets the operators that `function` calls.
template <typename Function>
auto call_on_cpu(const at::Tensor& self, Function function) {
  const c10::Device device = self.device();
  if (current_capture(device.index()) != nullptr) {
    return function([](const auto& argument) { return argument; });
  }
  const bool aliases = device_delegate(device.index()) == Delegate::kCpu;
  const CpuArgument cpu(device, aliases);
  const auto to_device = [&](const at::Tensor& result) {
    if (!result.defined()) {
      return result;
    }
    return aliases ? adopt_from_cpu(result, device.index()) : result.to(device);
  };
  std::optional<DelegateScope> scope;
  if (aliases) {
    scope.emplace(device.index());
  }
  auto result = function(cpu);
  if constexpr (std::is_same_v<decltype(result), at::Tensor>) {
    return to_device(result);
  } else {
    return std::apply([&](const auto&... results) { return std::make_tuple(to_device(results)...); }, result);
  }
}

}  // namespace gxu
