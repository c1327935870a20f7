#include "alias.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "allocator.h"
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

at::Tensor make_tensor(c10::Storage storage, c10::DispatchKey backend, const at::Tensor& like) {
  c10::DispatchKeySet keys(backend);
  copy_bits(like, keys);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return result;
}

// The memory of a CPU storage as memory of `device`.
at::DataPtr take_memory(c10::StorageImpl& storage, c10::DeviceIndex device) {
  const c10::Device label(kGxu, device);
  const bool has_memory = storage.data() != nullptr;  // zero tensors (_efficientzerotensor) have a size, but no memory
  if (!has_memory || storage.data_ptr().get_deleter() == &CachingAllocator::free) {
    at::DataPtr memory = storage.set_data_ptr(at::DataPtr(nullptr, kCpuDevice));
    memory.unsafe_set_device(label);
    return memory;
  }
  at::DataPtr memory = CachingAllocator::instance().allocate_on(device, storage.nbytes(), label);
  std::memcpy(memory.get(), storage.data(), storage.nbytes());
  return memory;
}

void release_storage(void* storage) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(storage)); }

}  // namespace

at::Tensor alias_as_cpu(const at::Tensor& tensor) {
  c10::StorageImpl* storage = tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
  c10::raw::intrusive_ptr::incref(storage);
  at::DataPtr memory(storage->mutable_data(), storage, &release_storage, kCpuDevice);
  c10::Storage alias(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage->nbytes(),
                                                           std::move(memory), c10::GetCPUAllocator(), true));
  return make_tensor(std::move(alias), c10::DispatchKey::CPU, tensor);
}

at::Tensor make_view(c10::Storage storage, const at::Tensor& like) {
  return make_tensor(std::move(storage), c10::DispatchKey::PrivateUse1, like);
}

at::Tensor adopt_from_cpu(const at::Tensor& tensor, c10::DeviceIndex device) {
  if (!tensor.defined() || !tensor.device().is_cpu()) {
    return tensor;
  }
  TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == at::kStrided && tensor.has_storage(),
                              "gxu tensors are dense: a result with layout ", tensor.layout(),
                              " is not supported; move the inputs to the CPU first.");
  c10::Storage storage = tensor.storage();
  c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
  // Results that share one storage share it on gxu too: the first one relabels it for all.
  if (impl.device_type() != kGxu) {
    impl.set_data_ptr_noswap(take_memory(impl, device));
    impl.set_allocator(&CachingAllocator::instance());
  }
  return make_view(std::move(storage), tensor);
}

void write_back_geometry(const at::Tensor& original, const at::Tensor& alias) {
  c10::StorageImpl& to = *original.storage().unsafeGetStorageImpl();
  c10::StorageImpl& from = *alias.storage().unsafeGetStorageImpl();
  if (to.data() != from.data()) {
    const size_t nbytes = from.nbytes();
    to.set_data_ptr_noswap(take_memory(from, original.device().index()));
    to.set_nbytes(nbytes);
  } else if (to.nbytes() != from.nbytes()) {
    to.set_nbytes(from.nbytes());
  }
  if (original.sizes() != alias.sizes() || original.strides() != alias.strides() ||
      original.storage_offset() != alias.storage_offset()) {
    original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
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
