#include "sharing.h"

#include <c10/util/Exception.h>

#include <cstring>
#include <memory>
#include <mutex>

#include "allocator.h"
#include "device_name.h"
#include "stream.h"

namespace gxu {
namespace {

// The allocation behind a shared storage.
struct SharedBlock {
  void* pointer;
  gxuIpcMemHandle_t handle;
  bool is_imported;
};

void release_block(void* context) {
  const std::unique_ptr<SharedBlock> block(static_cast<SharedBlock*>(context));
  if (is_in_bad_fork()) {
    return;  // the memory is the parent's business
  }
  // Both wait for the work that uses the memory. Errors: the process is exiting.
  if (block->is_imported) {
    runtime().gxuIpcCloseMemHandle(block->pointer);
  } else {
    runtime().gxuFree(block->pointer);
  }
}

at::DataPtr make_pointer(std::unique_ptr<SharedBlock> block, c10::Device device) {
  void* pointer = block->pointer;
  return {pointer, block.release(), &release_block, device};
}

std::unique_ptr<SharedBlock> allocate_shared(size_t nbytes, c10::DeviceIndex device) {
  const DeviceScope scope(device);
  auto block = std::make_unique<SharedBlock>();
  block->is_imported = false;
  gxuError_t error = runtime().gxuMalloc(&block->pointer, nbytes);
  if (error == gxuErrorOutOfMemory) {
    CachingAllocator::instance().emptyCache({0, 0});
    error = runtime().gxuMalloc(&block->pointer, nbytes);
  }
  check(error, "gxuMalloc");
  error = runtime().gxuIpcGetMemHandle(&block->handle, block->pointer);
  if (error != gxuSuccess) {
    const std::string message = runtime().gxuGetLastErrorMessage();
    runtime().gxuFree(block->pointer);
    TORCH_CHECK_NOT_IMPLEMENTED(error != gxuErrorNotSupported,
                                "this GXU runtime cannot share memory between processes: send tensor.cpu() instead (",
                                message, ")");
    check(error, "gxuIpcGetMemHandle");
  }
  return block;
}

// Moves the storage's contents; nothing else may use the storage meanwhile.
const SharedBlock& move_to_shared(c10::StorageImpl& storage) {
  const c10::Device device = storage.device();
  void* source = storage.mutable_data();  // of its own, where it shared its memory until a write
  std::unique_ptr<SharedBlock> block = allocate_shared(storage.nbytes(), device.index());
  const SharedBlock& result = *block;
  at::DataPtr pointer = make_pointer(std::move(block), device);
  const DeviceScope scope(device.index());
  const gxuStream_t stream = native_stream(current_stream_id(device.index()));
  GXU_CALL(gxuMemcpyAsync, pointer.get(), source, storage.nbytes(), gxuMemcpyDeviceToDevice, stream);
  GXU_CALL(gxuStreamSynchronize, stream);
  storage.set_data_ptr_noswap(std::move(pointer));
  storage.set_resizable(false);
  return result;
}

const SharedBlock* shared_block(const c10::StorageImpl& storage) {
  const at::DataPtr& pointer = storage.data_ptr();
  return pointer.get_deleter() == &release_block ? static_cast<const SharedBlock*>(pointer.get_context()) : nullptr;
}

}  // namespace

std::string share_storage(const c10::Storage& storage) {
  static auto* mutex = new std::mutex;  // two threads may send one storage
  c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
  TORCH_CHECK(impl.device_type() == kGxu, "expected a storage on ", device_name(), ", but got one on ", impl.device());
  TORCH_CHECK(impl.nbytes() > 0, "a storage without memory cannot be shared");
  synchronize_device(impl.device().index());
  std::lock_guard<std::mutex> lock(*mutex);
  const SharedBlock* block = shared_block(impl);
  const gxuIpcMemHandle_t& handle = block != nullptr ? block->handle : move_to_shared(impl).handle;
  return {handle.reserved, sizeof(handle.reserved)};
}

c10::Storage open_storage(const std::string& handle, size_t nbytes, int64_t device) {
  ensure_initialized();
  const c10::DeviceIndex index = resolve_device_index(device);
  auto block = std::make_unique<SharedBlock>();
  TORCH_CHECK(handle.size() == sizeof(block->handle.reserved), "a handle of shared ", device_name(), " memory has ",
              sizeof(block->handle.reserved), " bytes, but got ", handle.size());
  std::memcpy(block->handle.reserved, handle.data(), handle.size());
  block->is_imported = true;
  const DeviceScope scope(index);
  GXU_CALL(gxuIpcOpenMemHandle, &block->pointer, block->handle);
  gxuPointerAttributes attributes;
  const bool fits =
      runtime().gxuPointerGetAttributes(&attributes, block->pointer) == gxuSuccess && nbytes <= attributes.size;
  at::DataPtr pointer = make_pointer(std::move(block), c10::Device(kGxu, index));
  TORCH_CHECK(fits, "the shared ", device_name(), " memory has fewer than the ", nbytes,
              " bytes of the storage that was sent");
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), nbytes,
                                                            std::move(pointer), &CachingAllocator::instance(), false));
}

}  // namespace gxu
