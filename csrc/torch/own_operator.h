// Operators that gxu has kernels of its own for: they compute on the CPU, for devices whose memory the CPU reaches, or
// on copies. Where PyTorch's cuda device runs the operators of a device, CUDA's kernel goes first.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "alias.h"
#include "delegate.h"

namespace gxu {

namespace detail {

inline bool is_on_cuda(const at::Tensor& tensor) {
  return is_gxu(tensor) && device_delegate(tensor.device().index()) == Delegate::kCuda;
}
inline bool is_on_cuda(const std::optional<at::Tensor>& tensor) { return tensor && is_on_cuda(*tensor); }
template <typename T>
bool is_on_cuda(const T& /*not a tensor*/) {
  return false;
}

}  // namespace detail

// Registers `kernel` for ATen's operator `name`, with its overload's name behind a dot.
template <typename Result, typename... Arguments>
void implement(torch::Library& library, const std::string& name, Result (*kernel)(Arguments...)) {
  const size_t dot = name.find('.');
  const std::string overload = dot == std::string::npos ? "" : name.substr(dot + 1);
  const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow(("aten::" + name.substr(0, dot)).c_str(), overload.c_str());
  library.impl(name.c_str(), [op, kernel](Arguments... arguments) -> Result {
    if (C10_UNLIKELY((detail::is_on_cuda(arguments) || ...))) {
      return call_delegate<Result, Arguments...>(op, std::forward<Arguments>(arguments)...);
    }
    return kernel(std::forward<Arguments>(arguments)...);
  });
}

}  // namespace gxu
