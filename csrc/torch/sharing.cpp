#include "sharing.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "allocator.h"
#include "device_name.h"
#include "receipts.h"
#include "stream.h"

namespace gxu {
namespace {

// The allocation behind a shared storage.
struct SharedBlock {
  void* pointer;
  gxuIpcMemHandle_t handle;
  bool is_imported;
  std::vector<Receipt> receipts;  // messages that nobody has opened yet, and some that somebody has
};

// Guards the receipts of blocks and the blocks without a storage.
std::mutex& sharing_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

// Blocks whose storage is gone while a message with them is under way. Leaked on purpose, as their memory is: the
// process ends.
std::vector<std::unique_ptr<SharedBlock>>& unopened_blocks() {
  static auto* blocks = new std::vector<std::unique_ptr<SharedBlock>>;
  return *blocks;
}

// Forgets the messages that were opened; whether there are others. With the mutex.
bool is_awaited(SharedBlock& block) {
  auto& receipts = block.receipts;
  receipts.erase(std::remove_if(receipts.begin(), receipts.end(), &take_back_if_returned), receipts.end());
  return !receipts.empty();
}

void release_block(void* context) {
  std::unique_ptr<SharedBlock> block(static_cast<SharedBlock*>(context));
  if (is_in_bad_fork()) {
    return;  // the memory is the parent's business
  }
  // Both free functions wait for the work that uses the memory. Errors: the process is exiting.
  if (block->is_imported) {
    runtime().gxuIpcCloseMemHandle(block->pointer);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(sharing_mutex());
    if (is_awaited(*block)) {
      unopened_blocks().push_back(std::move(block));
    }
  }
  if (block != nullptr) {
    runtime().gxuFree(block->pointer);
  }
  free_opened_memory();
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
    free_opened_memory();
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
SharedBlock& move_to_shared(c10::StorageImpl& storage) {
  const c10::Device device = storage.device();
  void* source = storage.mutable_data();  // of its own, where it shared its memory until a write
  std::unique_ptr<SharedBlock> block = allocate_shared(storage.nbytes(), device.index());
  SharedBlock& result = *block;
  at::DataPtr pointer = make_pointer(std::move(block), device);
  const DeviceScope scope(device.index());
  const gxuStream_t stream = native_stream(current_stream_id(device.index()));
  GXU_CALL(gxuMemcpyAsync, pointer.get(), source, storage.nbytes(), gxuMemcpyDeviceToDevice, stream);
  GXU_CALL(gxuStreamSynchronize, stream);
  storage.set_data_ptr_noswap(std::move(pointer));
  storage.set_resizable(false);
  return result;
}

SharedBlock* shared_block(const c10::StorageImpl& storage) {
  const at::DataPtr& pointer = storage.data_ptr();
  return pointer.get_deleter() == &release_block ? static_cast<SharedBlock*>(pointer.get_context()) : nullptr;
}

// The receipt of a message with the block. None for another process's memory: that process keeps it or does not.
std::string add_receipt(SharedBlock& block) {
  if (block.is_imported) {
    return {};
  }
  std::lock_guard<std::mutex> lock(sharing_mutex());
  is_awaited(block);
  std::optional<IssuedReceipt> issued = issue_receipt();
  if (!issued.has_value()) {
    return {};
  }
  block.receipts.push_back(issued->receipt);
  return std::move(issued->bytes);
}

}  // namespace

SharedStorage share_storage(const c10::Storage& storage) {
  static auto* mutex = new std::mutex;  // two threads may send one storage
  c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
  TORCH_CHECK(impl.device_type() == kGxu, "expected a storage on ", device_name(), ", but got one on ", impl.device());
  TORCH_CHECK(impl.nbytes() > 0, "a storage without memory cannot be shared");
  bool is_shared = false;
  {
    std::lock_guard<std::mutex> lock(*mutex);
    is_shared = shared_block(impl) != nullptr;
  }
  // Memory that is about to move must be idle on all streams; what was shared before is ready with the caller's stream.
  if (is_shared) {
    const DeviceScope scope(impl.device().index());
    GXU_CALL(gxuStreamSynchronize, native_stream(current_stream_id(impl.device().index())));
  } else {
    synchronize_device(impl.device().index());
  }
  free_opened_memory();
  std::lock_guard<std::mutex> lock(*mutex);
  SharedBlock* found = shared_block(impl);
  SharedBlock& block = found != nullptr ? *found : move_to_shared(impl);
  return {{block.handle.reserved, sizeof(block.handle.reserved)}, add_receipt(block)};
}

bool free_opened_memory() {
  std::vector<std::unique_ptr<SharedBlock>> opened;
  {
    std::lock_guard<std::mutex> lock(sharing_mutex());
    auto& blocks = unopened_blocks();
    const auto first =
        std::stable_partition(blocks.begin(), blocks.end(), [](const auto& block) { return is_awaited(*block); });
    opened.assign(std::make_move_iterator(first), std::make_move_iterator(blocks.end()));
    blocks.erase(first, blocks.end());
  }
  for (const auto& block : opened) {
    runtime().gxuFree(block->pointer);
  }
  return !opened.empty();
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
