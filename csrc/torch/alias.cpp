#include "alias.h"

#include <ATen/quantized/QTensorImpl.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "allocator.h"
#include "device_name.h"
#include "stream.h"

namespace gxu {
namespace {

const c10::Device kCpuDevice(c10::DeviceType::CPU);

void copy_bits(const at::Tensor& from, c10::DispatchKeySet& keys) {
  for (const auto key : {c10::DispatchKey::Conjugate, c10::DispatchKey::Negative, c10::DispatchKey::ZeroTensor}) {
    if (from.key_set().has(key)) {
      keys = keys.add(key);
    }
  }
}

at::Tensor make_tensor(c10::Storage storage, c10::BackendComponent backend, const at::Tensor& like) {
  const bool is_quantized = like.is_quantized();
  c10::DispatchKeySet keys(is_quantized ? c10::DispatchKey::Quantized : c10::DispatchKey::Dense);
  keys = keys | c10::DispatchKeySet(backend);
  copy_bits(like, keys);
  at::Tensor result;
  if (C10_UNLIKELY(is_quantized)) {
    auto quantizer = static_cast<at::QTensorImpl*>(like.unsafeGetTensorImpl())->quantizer();
    result = at::detail::make_tensor<at::QTensorImpl>(std::move(storage), keys, like.dtype(), std::move(quantizer));
  } else {
    result = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  }
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return result;
}

// Zero tensors (_efficientzerotensor) have a size, but no memory.
bool is_device_memory(const c10::StorageImpl& storage) {
  return storage.data() == nullptr || storage.data_ptr().get_deleter() == &CachingAllocator::free;
}

at::DataPtr copy_bytes(const c10::StorageImpl& storage, c10::DeviceIndex device) {
  at::DataPtr memory = CachingAllocator::instance().allocate_on(device, storage.nbytes(), c10::Device(kGxu, device));
  std::memcpy(memory.get(), storage.data(), storage.nbytes());
  return memory;
}

// Memory that somebody else made, and may hold (a quantizer its scales, a library what it caches), stays as it is.
c10::Storage copy_memory(const c10::StorageImpl& storage, c10::DeviceIndex device) {
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage.nbytes(),
                                                            copy_bytes(storage, device), &CachingAllocator::instance(),
                                                            true));
}

// The memory of a CPU storage as memory of `device`.
at::DataPtr take_memory(c10::StorageImpl& storage, c10::DeviceIndex device) {
  if (!is_device_memory(storage)) {
    return copy_bytes(storage, device);
  }
  at::DataPtr memory = storage.set_data_ptr(at::DataPtr(nullptr, kCpuDevice));
  memory.unsafe_set_device(c10::Device(kGxu, device));
  return memory;
}

// An alias of `tensor` whose storage holds the memory that `share` gives.
at::Tensor alias_over(const at::Tensor& tensor, at::DataPtr (*share)(c10::StorageImpl*, c10::Device)) {
  c10::StorageImpl* storage = tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  c10::Storage alias(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage->nbytes(),
                                                           share(storage, kCpuDevice), c10::GetCPUAllocator(), true));
  return make_tensor(std::move(alias), c10::BackendComponent::CPUBit, tensor);
}

void release_storage(void* storage) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(storage)); }

}  // namespace

at::DataPtr share_memory(c10::StorageImpl* storage, c10::Device label) {
  c10::raw::intrusive_ptr::incref(storage);
  return {storage->mutable_data(), storage, &release_storage, label};
}

at::DataPtr share_for_reading(c10::StorageImpl* storage, c10::Device label) {
  c10::raw::intrusive_ptr::incref(storage);
  return {const_cast<void*>(storage->data()), storage, &release_storage, label};
}

at::Tensor alias_as_cpu(const at::Tensor& tensor) { return alias_over(tensor, &share_memory); }

at::Tensor alias_for_reading(const at::Tensor& tensor) { return alias_over(tensor, &share_for_reading); }

at::Tensor alias_as_cpu(const at::Tensor& tensor, c10::Storage storage) {
  return make_tensor(std::move(storage), c10::BackendComponent::CPUBit, tensor);
}

at::Tensor make_view(c10::Storage storage, const at::Tensor& like) {
  return make_tensor(std::move(storage), c10::BackendComponent::PrivateUse1Bit, like);
}

at::Tensor adopt_from_cpu(const at::Tensor& tensor, c10::DeviceIndex device) {
  if (!tensor.defined() || !tensor.device().is_cpu()) {
    return tensor;
  }
  TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == at::kStrided && tensor.has_storage(), device_name(),
                              " tensors are dense, sparse or quantized: a result with layout ", tensor.layout(),
                              " is not supported; move the inputs to the CPU first.");
  c10::Storage storage = tensor.storage();
  c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
  // Results that share one storage share it on gxu too: the first one relabels it for all.
  if (impl.device_type() != kGxu) {
    if (!is_device_memory(impl)) {
      return make_view(copy_memory(impl, device), tensor);
    }
    impl.set_data_ptr_noswap(take_memory(impl, device));
    impl.set_allocator(&CachingAllocator::instance());
  }
  return make_view(std::move(storage), tensor);
}

at::Tensor adopt_result(at::Tensor&& result, c10::DeviceIndex device) {
  c10::TensorImpl* impl = result.unsafeGetTensorImpl();
  // A tensor that nobody else has seen becomes gxu's as it is.
  if (C10_LIKELY(result.use_count() == 1 && result.is_cpu() && impl->layout() == at::kStrided && impl->has_storage() &&
                 !result.is_quantized())) {
    c10::StorageImpl& storage = *impl->unsafe_storage().unsafeGetStorageImpl();
    if (impl->unsafe_storage().use_count() == 1 && is_device_memory(storage)) {
      const c10::Device gxu_device(kGxu, device);
      storage._mutable_data_ptr_no_checks().unsafe_set_device(gxu_device);
      storage.set_allocator(&CachingAllocator::instance());
      impl->_change_backend_component_keys(gxu_device);
      // Takes over the new device. Moved, as counting references costs as much as the rest.
      impl->set_storage_keep_dtype(std::move(const_cast<c10::Storage&>(impl->unsafe_storage())));
      return std::move(result);
    }
  }
  return adopt_from_cpu(result, device);
}

void write_back_geometry(const at::Tensor& original, const at::Tensor& alias) {
  c10::StorageImpl& to = *original.storage().unsafeGetStorageImpl();
  c10::StorageImpl& from = *alias.storage().unsafeGetStorageImpl();
  const size_t nbytes = from.nbytes();
  const bool is_taken = from.data() == nullptr && nbytes > 0;
  if (to.data() != from.data() && !is_taken) {
    to.set_data_ptr_noswap(take_memory(from, original.device().index()));
    to.set_nbytes(nbytes);
  } else if (to.nbytes() != nbytes) {
    to.set_nbytes(nbytes);
  }
  if (original.sizes() != alias.sizes() || original.strides() != alias.strides() ||
      original.storage_offset() != alias.storage_offset()) {
    original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
  }
  if (original.is_quantized()) {
    auto* impl = static_cast<at::QTensorImpl*>(original.unsafeGetTensorImpl());
    impl->set_quantizer_(static_cast<at::QTensorImpl*>(alias.unsafeGetTensorImpl())->quantizer());
  }
  // Some out= kernels (lu_solve) leave a conjugation to their caller.
  if (original.is_conj() != alias.is_conj()) {
    original._set_conj(alias.is_conj());
  }
  if (original.is_neg() != alias.is_neg()) {
    original._set_neg(alias.is_neg());
  }
}

DelegateScope::DelegateScope(c10::DeviceIndex device)
    : allocation_(device), below_autograd_(c10::autograd_dispatch_keyset_with_ADInplaceOrView) {
  synchronize_stream(device, current_stream_id(device));
  work_.start_operator(device);
}

}  // namespace gxu
