// Operators on the memory of a device that PyTorch's cuda device reaches: the cuda engine's, with a torch that has
// CUDA.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace gxu {

// Whether a device that names cuda as its delegate can have it: this torch has CUDA, and the runtime tells the driver's
// streams.
bool has_cuda_delegate();

// Whether CUDA or any device has a kernel for the operator.
bool has_cuda_kernel(const c10::OperatorHandle& op);

// Runs the CUDA kernel of a dense operator on aliases of the gxu arguments, on the current stream of `device`, which
// has Delegate::kCuda, without waiting for it; results become gxu tensors and keep the memory of PyTorch's CUDA
// allocator.
//
// While a graph is captured, that needs a pool of PyTorch's CUDA allocator for the results: see count_open_cuda_pools.
void run_on_cuda(const c10::OperatorHandle& op, c10::DeviceIndex device, torch::jit::Stack* stack);

// Whether a CPU tensor is in memory that PyTorch's CUDA pinned: pin_memory=True asks CUDA's allocator where there is
// one.
bool pinned_by_cuda(const at::Tensor& tensor);

// A CUDA tensor with the dtype and geometry of `tensor` (also symbolic ones) and without memory, for functions that
// choose a kernel.
at::Tensor like_on_cuda(const at::Tensor& tensor);

// Tells PyTorch's CUDA allocator that `stream`, one of this device, uses memory of its own at `pointer`. False where
// the memory is not CUDA's.
bool record_cuda_stream(const at::DataPtr& pointer, c10::Stream stream);

// Gives the device what PyTorch's CUDA allocator keeps of its memory without using it. False where it keeps none.
bool release_cuda_cache(c10::DeviceIndex device);

// +1 once PyTorch's CUDA allocator gives a capture memory of a pool that lives as long as the graph, -1 at its end
// (gxu/graphs.py: the allocator's pools are reached from Python alone).
void count_open_cuda_pools(int change);

}  // namespace gxu
