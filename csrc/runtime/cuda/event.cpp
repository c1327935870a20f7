#include "event.h"

#include "../common/api.h"
#include "../common/arguments.h"
#include "../common/capture_errors.h"
#include "../common/handle_table.h"
#include "../common/host_function.h"
#include "capture.h"
#include "device.h"
#include "query.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

constexpr unsigned int kKnownFlags = gxuEventBlockingSync | gxuEventDisableTiming | gxuEventInterprocess;
static_assert(int{gxuEventBlockingSync} == int{CU_EVENT_BLOCKING_SYNC} &&
              int{gxuEventInterprocess} == int{CU_EVENT_INTERPROCESS} &&
              int{gxuEventDisableTiming} == int{CU_EVENT_DISABLE_TIMING});  // handed on as they are

using EventTable = HandleTable<gxuEvent_t, Event, HandleKind::kEvent>;

EventTable& event_handles() {
  static auto* table = new EventTable;
  return *table;
}

Event& resolve_event(gxuEvent_t handle) { return event_handles().get(handle); }

struct Recording {
  bool exists;
  std::shared_ptr<Capture> capture;
};

Recording latest(Event& event) {
  std::lock_guard lock(event.mutex);
  return {event.recorded, event.capture};
}

void forbid_captured(const Recording& recording, const char* function) {
  if (recording.capture) fail_captured_event(function);
}

void require_timed(Event& event) {
  if ((event.flags & gxuEventDisableTiming) != 0) {
    fail(gxuErrorInvalidHandle, "gxuEventElapsedTime: the event was created with gxuEventDisableTiming");
  }
  const Recording recording = latest(event);
  if (!recording.exists) fail(gxuErrorInvalidHandle, "gxuEventElapsedTime: the event has never been recorded");
  forbid_captured(recording, "gxuEventElapsedTime");
}

// Enqueues the wait where the stream, the event or both belong to a capture.
void wait_in_capture(Stream& stream, const Event& event, const Recording& recording) {
  const std::shared_ptr<Capture> own = stream.capture();
  if (!recording.capture) {
    own->invalidate();
    fail_event_outside_capture();
  }
  if (recording.capture->has_ended()) fail_event_of_ended_capture();
  recording.capture->require_active();
  if (own && own != recording.capture) {
    own->invalidate();
    recording.capture->invalidate();
    fail_two_captures();
  }
  Capture::join(recording.capture, stream, event.handle);
}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuEventCreate(gxuEvent_t* event, unsigned int flags) {
  return api([&] {
    require_argument(event, "event");
    if ((flags & ~kKnownFlags) != 0) fail(gxuErrorInvalidValue, "unknown event flags 0x%x", flags & ~kKnownFlags);
    if ((flags & gxuEventInterprocess) != 0 && (flags & gxuEventDisableTiming) == 0) {
      fail(gxuErrorInvalidValue, "gxuEventCreate: gxuEventInterprocess needs gxuEventDisableTiming");
    }
    Device& device = current_device();
    const ContextScope scope(device);
    CUevent handle = nullptr;
    GXU_DRIVER(cuEventCreate, &handle, flags);
    auto created = std::unique_ptr<Event>(new Event{device, handle, flags, {}, false, nullptr});
    *event = event_handles().insert(created.get());
    created.release();
  });
}

gxuError_t gxuEventDestroy(gxuEvent_t event) {
  return api([&] {
    const std::unique_ptr<Event> owned(event_handles().take(event));
    const ContextScope scope(owned->device);
    const CUresult result = driver.cuEventDestroy_v2(owned->handle);
    check_unless_sticky(result, "cuEventDestroy_v2");
  });
}

gxuError_t gxuEventRecord(gxuEvent_t event, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuEventRecord");
    Event& found = resolve_event(event);
    Stream& target = resolve_stream(stream);
    require_device_of_event(found.device.index(), target.device().index());
    target.require_valid_capture();
    const ContextScope scope(target.device());
    std::shared_ptr<Capture> capture = target.capture();
    std::lock_guard lock(found.mutex);
    GXU_DRIVER(cuEventRecord, found.handle, target.handle());
    found.recorded = true;
    found.capture = std::move(capture);
  });
}

gxuError_t gxuEventQuery(gxuEvent_t event) {
  return api([&] {
    Event& found = resolve_event(event);
    forbid_captured(latest(found), "gxuEventQuery");
    const CUresult result = query(found.device, [&] { return driver.cuEventQuery(found.handle); });
    if (result == CUDA_ERROR_NOT_READY) return gxuErrorNotReady;
    check_unless_sticky(result, "cuEventQuery");
    return gxuSuccess;
  });
}

gxuError_t gxuEventSynchronize(gxuEvent_t event) {
  return api([&] {
    Event& found = resolve_event(event);
    forbid_in_host_function("gxuEventSynchronize");
    forbid_captured(latest(found), "gxuEventSynchronize");
    const ContextScope scope(found.device);
    GXU_DRIVER(cuEventSynchronize, found.handle);
  });
}

gxuError_t gxuEventElapsedTime(float* milliseconds, gxuEvent_t start, gxuEvent_t end) {
  return api([&] {
    require_argument(milliseconds, "milliseconds");
    Event& first = resolve_event(start);
    Event& second = resolve_event(end);
    require_same_device(first.device.index(), second.device.index());
    require_timed(first);
    require_timed(second);
    const CUresult result =
        query(first.device, [&] { return driver.cuEventElapsedTime(milliseconds, first.handle, second.handle); });
    if (result == CUDA_ERROR_NOT_READY) return gxuErrorNotReady;
    check(result, "cuEventElapsedTime");
    return gxuSuccess;
  });
}

gxuError_t gxuStreamWaitEvent(gxuStream_t stream, gxuEvent_t event, unsigned int flags) {
  return api([&] {
    if (flags != 0) fail(gxuErrorInvalidValue, "gxuStreamWaitEvent: flags must be 0, not 0x%x", flags);
    forbid_in_host_function("gxuStreamWaitEvent");
    Stream& target = resolve_stream(stream);
    Event& found = resolve_event(event);
    target.require_valid_capture();
    const Recording recording = latest(found);
    if (!recording.exists) return;
    const ContextScope scope(target.device());
    if (recording.capture || target.is_capturing()) {
      wait_in_capture(target, found, recording);
    } else {
      GXU_DRIVER(cuStreamWaitEvent, target.handle(), found.handle, 0);
    }
  });
}
