// Interprocess memory. An allocation is private to its process until its handle is asked for: then its pages move into
// an anonymous file, which is mapped over them. Another process finds that file among the open files of the owner. The
// kernel frees the file when the last process that maps it ends, however it ends, and lets only processes of the same
// user reach it.
#include "ipc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "api.h"
#include "atomics.h"
#include "device.h"
#include "memory.h"
#include "memory_guard.h"
#include "stream.h"

namespace gxu::host {
namespace {

constexpr uint64_t kMagic = 0x31637069'2d757867;  // "gxu-ipc1"
// Parts of an allocation that hold nothing but zeros are not copied when it moves: the file has a hole there.
constexpr size_t kChunkBytes = size_t{64} << 10;

// What a gxuIpcMemHandle_t holds. Inode and file system tell the file from a later one under the same number.
struct Handle {
  uint64_t magic;
  uint64_t inode;
  uint64_t file_system;
  uint64_t size;      // bytes asked for
  uint64_t reserved;  // bytes of the file
  int32_t process;
  int32_t file;
};
static_assert(sizeof(Handle) <= sizeof(gxuIpcMemHandle_t));

struct SharedFiles {
  std::mutex mutex;
  std::map<const void*, int> files;  // open file by base of the allocation
};

// Leaked on purpose: memory may be freed while static destructors run.
SharedFiles& shared_files() {
  static auto* files = new SharedFiles;
  return *files;
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;

  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

[[noreturn]] void fail_to_share(size_t size) {
  const int error = errno;
  fail(error == ENOMEM || error == ENOSPC ? gxuErrorOutOfMemory : gxuErrorUnknown,
       "gxuIpcGetMemHandle: %zu bytes cannot become shared memory: %s%s", size, std::strerror(error),
       error == EMFILE ? "; every shared allocation keeps a file open: raise the limit (ulimit -n)" : "");
}

bool is_zero(const char* bytes, size_t size) { return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0; }

bool copy_to_file(int file, const char* bytes, size_t size) {
  for (size_t offset = 0; offset < size; offset += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, size - offset);
    if (is_zero(bytes + offset, chunk)) continue;
    for (size_t written = 0; written < chunk;) {
      const ssize_t count =
          pwrite(file, bytes + offset + written, chunk - written, static_cast<off_t>(offset + written));
      if (count < 0 && errno != EINTR) return false;
      if (count > 0) written += static_cast<size_t>(count);
    }
  }
  return true;
}

// Moves the allocation's contents into a new file, mapped at the same addresses, and returns the file.
int move_to_file(const Allocation& allocation) {
  void* base = reinterpret_cast<void*>(allocation.base);
  File file(memfd_create("gxu", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const bool moved =
      file.get() >= 0 && fchmod(file.get(), 0600) == 0 &&
      ftruncate(file.get(), static_cast<off_t>(allocation.reserved)) == 0 &&
      // No process can shrink the file under the others.
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 &&
      copy_to_file(file.get(), static_cast<const char*>(base), allocation.reserved) &&
      mmap(base, allocation.reserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.get(), 0) != MAP_FAILED;
  if (!moved) fail_to_share(allocation.size);
  return file.release();
}

// The file of the allocation; made at the first call.
int shared_file(const Allocation& allocation) {
  SharedFiles& shared = shared_files();
  std::lock_guard lock(shared.mutex);
  const void* base = reinterpret_cast<const void*>(allocation.base);
  const auto found = shared.files.find(base);
  if (found != shared.files.end()) return found->second;
  const int file = move_to_file(allocation);
  try {
    shared.files.emplace(base, file);
  } catch (...) {
    close(file);  // the memory stays usable, and a later call moves it once more
    throw;
  }
  return file;
}

struct stat status_of(int file) {
  struct stat status;
  if (fstat(file, &status) != 0) fail(gxuErrorUnknown, "fstat of shared memory failed: %s", std::strerror(errno));
  return status;
}

Handle read_handle(const gxuIpcMemHandle_t& bytes) {
  Handle handle;
  std::memcpy(&handle, &bytes, sizeof(handle));
  if (handle.magic != kMagic || handle.size == 0 || handle.size > handle.reserved) {
    fail(gxuErrorInvalidValue, "gxuIpcOpenMemHandle: these bytes are not a handle from gxuIpcGetMemHandle");
  }
  return handle;
}

int open_file(const Handle& handle) {
  const std::string path = format_text("/proc/%d/fd/%d", handle.process, handle.file);
  File file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0 && (errno == EACCES || errno == EPERM)) {
    fail(gxuErrorInvalidValue,
         "gxuIpcOpenMemHandle: the memory belongs to process %d, whose files this process may not open: both must run "
         "as the same user",
         handle.process);
  }
  if (file.get() < 0 && (errno == EMFILE || errno == ENFILE)) {
    fail(gxuErrorUnknown, "gxuIpcOpenMemHandle: %s: raise the limit (ulimit -n)", std::strerror(errno));
  }
  const bool found = file.get() >= 0;
  const struct stat status = found ? status_of(file.get()) : (struct stat){};
  if (!found || status.st_ino != handle.inode || status.st_dev != handle.file_system ||
      static_cast<uint64_t>(status.st_size) != handle.reserved) {
    fail(gxuErrorInvalidValue,
         "gxuIpcOpenMemHandle: process %d has freed the memory or ended: the owner must keep it until it was opened",
         handle.process);
  }
  return file.release();
}

}  // namespace

void stop_sharing(const void* base) {
  SharedFiles& shared = shared_files();
  std::lock_guard lock(shared.mutex);
  const auto found = shared.files.find(base);
  if (found == shared.files.end()) return;
  close(found->second);
  shared.files.erase(found);
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuIpcGetMemHandle(gxuIpcMemHandle_t* handle, void* pointer) {
  return api([&] {
    require_argument(handle, "handle");
    require_argument(pointer, "pointer");
    forbid_in_host_function("gxuIpcGetMemHandle");
    const Allocation allocation = find_start(pointer, gxuMemoryTypeDevice, false, "gxuIpcGetMemHandle");
    if (guards_memory()) {
      fail(gxuErrorNotSupported,
           "gxuIpcGetMemHandle: memory between guard pages cannot be shared: unset GXU_MEMORY_GUARD");
    }
    device_at(allocation.device).drain();
    AtomicsTurn::share_with_processes();
    const int file = shared_file(allocation);
    const struct stat status = status_of(file);
    const Handle made{kMagic, status.st_ino, status.st_dev, allocation.size, allocation.reserved, getpid(), file};
    std::memset(handle, 0, sizeof(*handle));
    std::memcpy(handle, &made, sizeof(made));
  });
}

gxuError_t gxuIpcOpenMemHandle(void** pointer, gxuIpcMemHandle_t handle) {
  return api([&] {
    require_argument(pointer, "pointer");
    *pointer = nullptr;
    const Handle found = read_handle(handle);
    const File file(open_file(found));
    AtomicsTurn::share_with_processes();
    void* base = mmap(nullptr, found.reserved, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (base == MAP_FAILED) {
      fail(gxuErrorOutOfMemory, "gxuIpcOpenMemHandle: %llu bytes cannot be mapped: %s",
           static_cast<unsigned long long>(found.size), std::strerror(errno));
    }
    try {
      publish_allocation({reinterpret_cast<uintptr_t>(base), found.size, gxuMemoryTypeDevice, current_device().index(),
                          found.reserved, true});
    } catch (...) {
      munmap(base, found.reserved);
      throw;
    }
    *pointer = base;
  });
}

gxuError_t gxuIpcCloseMemHandle(void* pointer) {
  return api([&] {
    require_argument(pointer, "pointer");
    forbid_in_host_function("gxuIpcCloseMemHandle");
    const Allocation allocation = find_start(pointer, gxuMemoryTypeDevice, true, "gxuIpcCloseMemHandle");
    device_at(allocation.device).drain();
    withdraw_allocation(allocation, "gxuIpcCloseMemHandle");
    munmap(pointer, allocation.reserved);
  });
}
