#include "copy.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/copy_native.h>
#include <ATen/ops/empty_strided.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>

#include "alias.h"
#include "allocator.h"
#include "cuda_delegate.h"
#include "device_name.h"
#include "graph_capture.h"
#include "lent_alias.h"
#include "pinned_allocator.h"
#include "profiler.h"
#include "stream.h"

namespace gxu {
namespace {

// Elements that one thread copies: PyTorch divides more among several.
constexpr int64_t kSmallCopy = at::internal::GRAIN_SIZE;

// Bytes from a tensor's first to its last element.
size_t span_bytes(const at::Tensor& tensor) {
  int64_t last = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    last += (tensor.size(dim) - 1) * tensor.stride(dim);
  }
  return static_cast<size_t>(last + 1) * tensor.element_size();
}

bool is_device_reached_by_cpu(const at::Tensor& tensor) {
  return !is_gxu(tensor) || device_delegate(tensor.device().index()) == Delegate::kCpu;
}

// True where the copy is one of bytes: same dtype and geometry, no gaps, no pending conjugation or negation.
bool is_plain(const at::Tensor& destination, const at::Tensor& source) {
  return destination.dtype() == source.dtype() && destination.sizes() == source.sizes() &&
         destination.strides() == source.strides() && source.is_non_overlapping_and_dense() &&
         destination.is_conj() == source.is_conj() && destination.is_neg() == source.is_neg() &&
         !source._is_zerotensor() && !source.is_quantized();
}

gxuMemcpyKind memcpy_kind(const at::Tensor& destination, const at::Tensor& source) {
  if (!is_gxu(source)) {
    return gxuMemcpyHostToDevice;
  }
  return is_gxu(destination) ? gxuMemcpyDeviceToDevice : gxuMemcpyDeviceToHost;
}

c10::Device gxu_device(const at::Tensor& destination, const at::Tensor& source) {
  return is_gxu(destination) ? destination.device() : source.device();
}

void synchronize_current_streams(const at::Tensor& destination, const at::Tensor& source) {
  for (const at::Tensor& tensor : {destination, source}) {
    if (is_gxu(tensor)) {
      const auto device = tensor.device().index();
      synchronize_stream(device, current_stream_id(device));
    }
  }
}

// Queues a copy of bytes on the current stream.
void enqueue_bytes(const at::Tensor& destination, const at::Tensor& source, size_t nbytes) {
  const c10::Device device = gxu_device(destination, source);
  const DeviceScope scope(device.index());
  const RuntimeCall call("gxuMemcpyAsync");
  GXU_CALL(gxuMemcpyAsync, destination.data_ptr(), source.const_data_ptr(), nbytes, memcpy_kind(destination, source),
           native_stream(current_stream_id(device.index())));
}

const at::Tensor* pinned_side(const at::Tensor& destination, const at::Tensor& source) {
  for (const at::Tensor* tensor : {&destination, &source}) {
    if (!is_gxu(*tensor) && is_pinned(tensor->const_data_ptr())) {
      return tensor;
    }
  }
  return nullptr;
}

void copy_bytes(const at::Tensor& destination, const at::Tensor& source, const at::Tensor* pinned) {
  enqueue_bytes(destination, source, source.numel() * source.element_size());
  if (pinned != nullptr) {
    record_pinned_use(pinned->const_data_ptr(), current_stream(gxu_device(destination, source).index()));
  } else if (destination.device() != source.device()) {
    synchronize_current_streams(destination, source);
  }
}

// Makes the calling thread's copy of `source` into `destination`, on their CPU forms.
template <typename Copy>
void run_copy(const at::Tensor& destination, const at::Tensor& source, Copy copy) {
  const c10::impl::ExcludeDispatchKeyGuard below_autograd(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  DelegatedWork work;
  work.start_copy(gxu_device(destination, source).index(), source.numel() * source.element_size(),
                  memcpy_kind(destination, source));
  copy();
}

// The CPU converts and rearranges, directly in device memory.
void copy_on_delegate(const at::Tensor& destination, const at::Tensor& source) {
  synchronize_current_streams(destination, source);
  run_copy(destination, source, [&] {
    const bool is_shared = is_gxu(destination) && is_gxu(source) && source.storage().is_alias_of(destination.storage());
    const at::Tensor to = is_gxu(destination) ? alias_as_cpu(destination) : destination;
    to.copy_(is_shared ? alias_as_cpu(source, to.storage()) : is_gxu(source) ? alias_for_reading(source) : source);
    if (is_gxu(destination) && destination.is_quantized()) {
      write_back_geometry(destination, to);  // the source's quantizer comes with its values
    }
  });
}

// The usual copy, within a device, as copy_on_delegate does it but without allocating. Returns false where it is
// another.
bool copy_lent(const at::Tensor& destination, const at::Tensor& source) {
  if (!is_gxu(destination) || source.device() != destination.device() || source.sizes() != destination.sizes() ||
      source.numel() == 0 || !LentAlias::suits(destination) || !LentAlias::suits(source) ||
      source.storage().is_alias_of(destination.storage())) {
    return false;
  }
  const c10::DeviceIndex device = destination.device().index();
  if (device_delegate(device) != Delegate::kCpu || current_capture(device) != nullptr) {
    return false;
  }
  synchronize_stream(device, current_stream_id(device));
  run_copy(destination, source, [&] {
    if (source.numel() <= kSmallCopy && is_plain(destination, source)) {
      std::memcpy(destination.mutable_data_ptr(), source.const_data_ptr(), source.numel() * source.element_size());
      return;
    }
    const LentAlias to(destination, true);
    const LentAlias from(source, false);
    at::native::copy_(to.tensor(), from.tensor());
  });
  return true;
}

// A CPU tensor with the geometry of a gxu tensor whose memory the CPU does not reach.
at::Tensor stage_on_cpu(const at::Tensor& tensor) {
  at::Tensor staged = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
  enqueue_bytes(staged, tensor, span_bytes(tensor));
  synchronize_current_streams(staged, tensor);
  staged._set_conj(tensor.is_conj());
  staged._set_neg(tensor.is_neg());
  return staged;
}

// The CPU converts and rearranges copies of the tensors.
void copy_staged(const at::Tensor& destination, const at::Tensor& source) {
  const c10::impl::ExcludeDispatchKeyGuard below_autograd(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const at::Tensor from = is_gxu(source) ? stage_on_cpu(source) : source;
  if (!is_gxu(destination)) {
    destination.copy_(from);
    return;
  }
  const at::Tensor to = stage_on_cpu(destination);  // with what lies between the elements
  to.copy_(from);
  enqueue_bytes(destination, to, span_bytes(destination));
  synchronize_current_streams(destination, to);
}

// PyTorch's cuda device copies, converts and rearranges.
void copy_on_cuda(const at::Tensor& destination, const at::Tensor& source, bool non_blocking) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", "");
  torch::jit::Stack stack{destination, source, non_blocking};
  run_on_cuda(op, gxu_device(destination, source).index(), &stack);
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& destination, bool non_blocking) {
  at::Tensor to = destination;
  copy_(to, self, non_blocking);
  return destination;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& destination) {
  if (destination.sizes() != self.sizes()) {
    destination.resize_(self.sizes());
  }
  return copy_from(self, destination, false);
}

}  // namespace

at::Tensor& copy_(at::Tensor& destination, const at::Tensor& source, bool non_blocking) {
  ensure_initialized();
  if (destination.is_same(source) || copy_lent(destination, source)) {
    return destination;
  }
  for (const at::Tensor& tensor : {destination, source}) {
    TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == at::kStrided && (is_gxu(tensor) || tensor.device().is_cpu()),
                                "a copy between ", device_name(), " and a tensor on ", tensor.device(), " with layout ",
                                tensor.layout(), " is not supported; copy through a dense CPU tensor.");
  }
  const at::Tensor from = source.sizes() == destination.sizes() ? source : source.expand(destination.sizes());
  if (from.numel() == 0) {
    return destination;
  }
  const bool plain = is_plain(destination, from);
  const at::Tensor* pinned = plain && non_blocking ? pinned_side(destination, from) : nullptr;
  const c10::DeviceIndex device = gxu_device(destination, from).index();
  const bool is_from_device_to_device = is_gxu(destination) && is_gxu(from);
  const bool is_between_devices = is_from_device_to_device && destination.device() != from.device();
  const bool is_on_cuda = device_delegate(device) == Delegate::kCuda;
  GraphWork* work = current_capture(device);
  if (is_from_device_to_device) {
    at::assert_no_partial_overlap(destination, from);  // the runtime's copies do not look
  }
  // Memory that PyTorch's CUDA pinned has its own way to be kept until the copy is done.
  const bool is_pinned_by_cuda = is_on_cuda && non_blocking && plain && pinned == nullptr &&
                                 !is_from_device_to_device && pinned_by_cuda(is_gxu(destination) ? from : destination);
  if (is_pinned_by_cuda) {
    copy_on_cuda(destination, from, /*non_blocking=*/true);
  } else if (is_on_cuda && (!plain || is_between_devices) && (work == nullptr || is_from_device_to_device)) {
    copy_on_cuda(destination, from, /*non_blocking=*/is_from_device_to_device);
  } else if (is_on_cuda && work != nullptr && is_from_device_to_device) {
    enqueue_bytes(destination, from, from.numel() * from.element_size());
  } else if (work != nullptr && pinned == nullptr) {
    capture_copy(*work, destination, from);
  } else if (work != nullptr) {
    work->keep(*pinned);
    enqueue_bytes(destination, from, from.numel() * from.element_size());
  } else if (pinned == nullptr && is_device_reached_by_cpu(destination) && is_device_reached_by_cpu(from)) {
    copy_on_delegate(destination, from);
  } else if (plain && !is_between_devices) {
    copy_bytes(destination, from, pinned);
  } else {
    copy_staged(destination, from);
  }
  return destination;
}

void resize_storage(c10::StorageImpl& storage, size_t nbytes) {
  TORCH_CHECK(storage.resizable(), "Trying to resize storage that is not resizable");
  const c10::Device device = storage.device();
  at::DataPtr memory = CachingAllocator::instance().allocate_on(device.index(), nbytes, device);
  const size_t kept = std::min(nbytes, storage.nbytes());
  if (kept > 0) {
    const DeviceScope scope(device.index());
    GXU_CALL(gxuMemcpyAsync, memory.get(), storage.data(), kept, gxuMemcpyDeviceToDevice,
             native_stream(current_stream_id(device.index())));
  }
  storage.set_data_ptr_noswap(std::move(memory));
  storage.set_nbytes(nbytes);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("copy_", &copy_);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
}

// Bits of the source are the copy's business; their own fallbacks would call it again without end.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) { library.impl("_copy_from", torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, Negative, library) { library.impl("_copy_from", torch::CppFunction::makeFallthrough()); }

}  // namespace gxu
