// Storages whose memory several processes map, for torch.multiprocessing.
#pragma once

#include <c10/core/Storage.h>

#include <string>

namespace gxu {

// What a message holds of a storage.
struct SharedStorage {
  std::string handle;   // of its memory
  std::string receipt;  // for return_receipt (receipts.h), once the memory is open; empty: the sender does not wait
};

// Prepares a message with the storage, after all work of its device. At the first call the storage moves to an
// allocation of its own, which the runtime shares: its address changes, as that of a CPU storage does. From then on its
// memory stays until the receiver of each message has opened it, also where the storage goes before.
SharedStorage share_storage(const c10::Storage& storage);

// Frees the memory of storages that are gone and whose messages have all been opened. Returns whether there was any.
bool free_opened_memory();

// The storage behind a handle of another process, with `nbytes` bytes on `device`.
c10::Storage open_storage(const std::string& handle, size_t nbytes, int64_t device);

}  // namespace gxu
