// Storages whose memory several processes map, for torch.multiprocessing.
#pragma once

#include <c10/core/Storage.h>

#include <string>

namespace gxu {

// The handle of the storage's memory for other processes, after all work of its device. At the first call the storage
// moves to an allocation of its own, which the runtime shares: its address changes, as that of a CPU storage does.
std::string share_storage(const c10::Storage& storage);

// The storage behind a handle of another process, with `nbytes` bytes on `device`.
c10::Storage open_storage(const std::string& handle, size_t nbytes, int64_t device);

}  // namespace gxu
