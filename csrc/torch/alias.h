// Views of gxu memory as tensors of the delegate, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include "delegate_allocator.h"
#include "device.h"
#include "profiler.h"

namespace gxu {

inline bool is_gxu(const at::Tensor& tensor) { return tensor.defined() && tensor.device().type() == kGxu; }

// A CPU tensor over the memory of `tensor` (dense or quantized), with its sizes, strides and conjugate, negative and
// wrapped-number bits. It keeps the memory alive. Wait for the stream before you look at the values. Memory that
// `tensor` shares with lazy clones (Tensor._lazy_clone) is copied first, as the alias may be written.
at::Tensor alias_as_cpu(const at::Tensor& tensor);

// An alias that is only read: what lazy clones share stays shared.
at::Tensor alias_for_reading(const at::Tensor& tensor);

// An alias of `tensor` over `storage`, that of an alias of another tensor with the same memory: operators see by their
// storages that two arguments overlap.
at::Tensor alias_as_cpu(const at::Tensor& tensor, c10::Storage storage);

// The memory of `storage`, which it keeps alive, under another device's label: to be written, or only read.
at::DataPtr share_memory(c10::StorageImpl* storage, c10::Device label);
at::DataPtr share_for_reading(c10::StorageImpl* storage, c10::Device label);

// The gxu tensor with the contents of a CPU tensor that was made inside a DelegateScope for `device`. Takes the memory
// over where it is the device's; memory from elsewhere (a library's cache) is copied.
at::Tensor adopt_from_cpu(const at::Tensor& tensor, c10::DeviceIndex device);

// adopt_from_cpu for a result that the caller gives away: mostly the same object, which belongs to gxu from here on.
at::Tensor adopt_result(at::Tensor&& result, c10::DeviceIndex device);

// A gxu tensor over `storage` with the geometry and bits of `like`.
at::Tensor make_view(c10::Storage storage, const at::Tensor& like);

// Carries a change of storage or geometry that an operator made to an alias (resize_, out=) over to the original. The
// memory of aliases with one storage is taken over once.
void write_back_geometry(const at::Tensor& original, const at::Tensor& alias);

// In its scope the caller may execute CPU operators on aliases: waits for the current stream of the device, lets CPU
// results be device memory, and goes below autograd.
class DelegateScope {
 public:
  explicit DelegateScope(c10::DeviceIndex device);

 private:
  DelegateAllocationScope allocation_;
  c10::impl::ExcludeDispatchKeyGuard below_autograd_;
  DelegatedWork work_;
};

}  // namespace gxu
