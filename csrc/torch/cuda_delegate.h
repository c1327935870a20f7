// Operators on the memory of a device that PyTorch's cuda device reaches: the cuda engine's, with a torch that has
// CUDA.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace gxu {

// Runs the CUDA kernel of a dense operator on aliases of the gxu arguments, on the device's current stream, without
// waiting for it; results become gxu tensors and keep the memory of PyTorch's CUDA allocator. False, with nothing done,
// where the device does not name cuda as its delegate or this torch has no CUDA.
//
// While a graph is captured, that needs a pool of PyTorch's CUDA allocator for the results: see count_open_cuda_pools.
bool run_on_cuda(const c10::OperatorHandle& op, c10::DeviceIndex device, torch::jit::Stack* stack);

// True where run_on_cuda would run operators of `device`.
bool delegates_to_cuda(c10::DeviceIndex device);

// Tells PyTorch's CUDA allocator that `stream`, one of this device, uses memory of its own at `pointer`. False where
// the memory is not CUDA's.
bool record_cuda_stream(const at::DataPtr& pointer, c10::Stream stream);

// Gives the device what PyTorch's CUDA allocator keeps of its memory without using it. False where it keeps none.
bool release_cuda_cache(c10::DeviceIndex device);

// +1 once PyTorch's CUDA allocator gives a capture memory of a pool that lives as long as the graph, -1 at its end
// (gxu/graphs.py: the allocator's pools are reached from Python alone).
void count_open_cuda_pools(int change);

}  // namespace gxu
