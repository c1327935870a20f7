// Tensors that no collective takes. Without these kernels the delegate would hand them to the CPU's backend, which may
// be there, and would not wait for it.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "../device_name.h"

namespace gxu {
namespace {

void refuse(const c10::OperatorHandle& op, torch::jit::Stack* /*stack*/) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, device_name(), "ccl has no ", op.schema().name(),
                              " for sparse and quantized tensors: use to_dense() or dequantize() (for gradients of "
                              "nn.Embedding, sparse=False)");
}

void refuse_all(torch::Library& library) {
  for (const char* name : {"allgather_", "allreduce_", "alltoall_", "broadcast_", "gather_", "recv_", "reduce_",
                           "reduce_scatter_", "scatter_", "send"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse>());
  }
}

TORCH_LIBRARY_IMPL(c10d, SparsePrivateUse1, library) { refuse_all(library); }
TORCH_LIBRARY_IMPL(c10d, SparseCsrPrivateUse1, library) { refuse_all(library); }
TORCH_LIBRARY_IMPL(c10d, QuantizedPrivateUse1, library) { refuse_all(library); }

}  // namespace
}  // namespace gxu
