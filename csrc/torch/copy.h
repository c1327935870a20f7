// Copies of tensors and storages.
#pragma once

#include <ATen/core/Tensor.h>

namespace gxu {

// aten::copy_ where source, destination or both are on gxu. Where `non_blocking` is set, one side is pinned host memory
// and neither dtype nor layout changes, the copy is queued on the current stream; so is one inside a device without
// delegate. Every other copy waits for the current streams of its tensors and is done on return.
at::Tensor& copy_(at::Tensor& destination, const at::Tensor& source, bool non_blocking);

// Gives the storage a new size and keeps what fits of its contents.
void resize_storage(c10::StorageImpl& storage, size_t nbytes);

}  // namespace gxu
