// Questions to the driver from host functions, where the driver answers none.
#pragma once

#include <future>
#include <type_traits>

#include "../common/host_function.h"
#include "device.h"

namespace gxu::cuda {

// Calls `ask` with the device's context current; inside a host function on a thread of its own, which the driver takes
// for any other.
template <typename Ask>
std::invoke_result_t<Ask> query(Device& device, Ask ask) {
  auto with_context = [&]() -> std::invoke_result_t<Ask> {
    const ContextScope scope(device);
    return ask();
  };
  if (in_host_function()) [[unlikely]] {
    return std::async(std::launch::async, with_context).get();
  }
  return with_context();
}

}  // namespace gxu::cuda
