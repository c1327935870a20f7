// Operators on the memory of a device that PyTorch's cuda device reaches: the cuda engine's, with a torch that has
// CUDA.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Device.h>

namespace gxu {

// Runs the CUDA kernel of a dense operator on aliases of the gxu arguments, on the device's current stream, without
// waiting for it; results become gxu tensors and keep the memory of PyTorch's CUDA allocator. False, with nothing done,
// where the device does not name cuda as its delegate or this torch has no CUDA.
bool run_on_cuda(const c10::OperatorHandle& op, c10::DeviceIndex device, torch::jit::Stack* stack);

}  // namespace gxu
