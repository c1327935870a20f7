#include "shared_event.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "device.h"
#include "gil.h"
#include "graph_capture.h"
#include "stream.h"

namespace gxu {
namespace {

constexpr uint64_t kMagic = 0x31746e65'2d757867;  // "gxu-ent1"

struct Handle {
  uint64_t magic;
  uint64_t inode;
  int32_t process;
  int32_t file;
};

// How long a waiting process sleeps before it looks whether the other one still lives.
constexpr timespec kPatience{0, 100'000'000};

constexpr const char* kOwnerHasEnded =
    "An event of another process was not reached: the process that recorded it has ended.";

}  // namespace

// Tickets wrap around; half of their range is behind the latest one, half before it.
struct SharedEvent::State {
  std::atomic<uint32_t> recorded;
  std::atomic<uint32_t> reached;
  std::atomic<int32_t> recorder;  // process of the latest recording

  bool has_reached(uint32_t ticket) const {
    return static_cast<int32_t>(reached.load(std::memory_order_acquire) - ticket) >= 0;
  }
};

// What a host function gets; the event lives until it was called.
struct SharedEvent::Step {
  std::shared_ptr<SharedEvent> event;
  uint32_t ticket;
  c10::DeviceIndex device;
};

std::shared_ptr<SharedEvent> SharedEvent::create() {
  const int file = memfd_create("gxu-event", MFD_CLOEXEC);
  TORCH_CHECK(file >= 0, "An event that processes share needs a file in memory: ", std::strerror(errno), ".");
  if (ftruncate(file, sizeof(State)) != 0) {
    close(file);
    TORCH_CHECK(false, "An event that processes share needs a page of memory: ", std::strerror(errno), ".");
  }
  return map(file);
}

std::shared_ptr<SharedEvent> SharedEvent::open(const std::string& bytes) {
  Handle handle{};
  TORCH_CHECK(bytes.size() == sizeof(handle), "These ", bytes.size(), " bytes are not the handle of an event.");
  std::memcpy(&handle, bytes.data(), sizeof(handle));
  TORCH_CHECK(handle.magic == kMagic, "These bytes are not the handle of an event.");
  const std::string path = c10::str("/proc/", handle.process, "/fd/", handle.file);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status{};
  if (file < 0 || fstat(file, &status) != 0 || status.st_ino != handle.inode) {
    if (file >= 0) {
      close(file);
    }
    TORCH_CHECK(false, "The event of process ", handle.process,
                " cannot be opened: the process has ended, has freed the event, or runs as another user.");
  }
  return map(file);
}

std::shared_ptr<SharedEvent> SharedEvent::map(int file) {
  void* memory = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    close(file);
    TORCH_CHECK(false, "An event that processes share cannot be mapped: ", std::strerror(errno), ".");
  }
  return std::shared_ptr<SharedEvent>(new SharedEvent(file, static_cast<State*>(memory)));
}

SharedEvent::~SharedEvent() {
  munmap(state_, sizeof(State));
  close(file_);
}

std::string SharedEvent::handle() const {
  struct stat status{};
  TORCH_CHECK(fstat(file_, &status) == 0, "fstat of an event failed: ", std::strerror(errno), ".");
  const Handle handle{kMagic, status.st_ino, getpid(), file_};
  return {reinterpret_cast<const char*>(&handle), sizeof(handle)};
}

void SharedEvent::record(c10::Stream stream) {
  forbid_in_capture(stream.device_index(), "An event that processes share");
  state_->recorder.store(getpid(), std::memory_order_relaxed);
  const uint32_t ticket = state_->recorded.fetch_add(1, std::memory_order_acq_rel) + 1;
  enqueue(stream, ticket, &reach);
}

void SharedEvent::wait(c10::Stream stream) {
  forbid_in_capture(stream.device_index(), "A wait for an event that processes share");
  const uint32_t ticket = state_->recorded.load(std::memory_order_acquire);
  if (!state_->has_reached(ticket)) {
    enqueue(stream, ticket, &wait_in_stream);
  }
}

bool SharedEvent::query() const { return state_->has_reached(state_->recorded.load(std::memory_order_acquire)); }

void SharedEvent::synchronize() const {
  const GilRelease released;
  TORCH_CHECK(wait_for(state_->recorded.load(std::memory_order_acquire)), kOwnerHasEnded);
}

void SharedEvent::enqueue(c10::Stream stream, uint32_t ticket, void (*function)(void*)) {
  ensure_initialized();
  const DeviceScope scope(stream.device_index());
  auto step = std::make_unique<Step>(Step{shared_from_this(), ticket, stream.device_index()});
  GXU_CALL(gxuLaunchHostFunc, native_stream(stream.id()), function, step.get());
  step.release();
}

void SharedEvent::reach(void* argument) {
  const std::unique_ptr<Step> step(static_cast<Step*>(argument));
  std::atomic<uint32_t>& reached = step->event->state_->reached;
  uint32_t before = reached.load(std::memory_order_relaxed);
  while (static_cast<int32_t>(step->ticket - before) > 0 &&
         !reached.compare_exchange_weak(before, step->ticket, std::memory_order_release)) {
  }
  syscall(SYS_futex, &reached, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void SharedEvent::wait_in_stream(void* argument) {
  const std::unique_ptr<Step> step(static_cast<Step*>(argument));
  if (!step->event->wait_for(step->ticket)) {
    record_asynchronous_error(step->device, kOwnerHasEnded);
  }
}

bool SharedEvent::wait_for(uint32_t ticket) const {
  while (!state_->has_reached(ticket)) {
    const uint32_t seen = state_->reached.load(std::memory_order_acquire);
    if (static_cast<int32_t>(seen - ticket) >= 0) {
      return true;
    }
    const long result = syscall(SYS_futex, &state_->reached, FUTEX_WAIT, seen, &kPatience, nullptr, 0);
    if (result != 0 && errno == ETIMEDOUT && kill(state_->recorder.load(std::memory_order_relaxed), 0) != 0 &&
        errno == ESRCH) {
      return state_->has_reached(ticket);
    }
  }
  return true;
}

}  // namespace gxu
