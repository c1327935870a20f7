#include "event.h"

#include <chrono>
#include <vector>

#include "../common/arguments.h"
#include "../common/capture_errors.h"
#include "api.h"
#include "device.h"
#include "graph.h"
#include "stream.h"

namespace gxu::host {
namespace {

constexpr unsigned int kKnownFlags = gxuEventBlockingSync | gxuEventDisableTiming;

// Events are never freed, so that a record that still refers to a destroyed one finds memory to look at.
struct EventPool {
  HandleTable<gxuEvent_t, Event, HandleKind::kEvent> handles;
  std::mutex mutex;
  std::vector<Event*> unused;
};

EventPool& pool() {
  static EventPool* instance = new EventPool;
  return *instance;
}

Event& acquire_event() {
  EventPool& events = pool();
  std::lock_guard lock(events.mutex);
  if (events.unused.empty()) return *new Event;
  Event& event = *events.unused.back();
  events.unused.pop_back();
  return event;
}

void return_event(Event& event) {
  EventPool& events = pool();
  std::lock_guard lock(events.mutex);
  events.unused.push_back(&event);
}

Event& resolve_event(gxuEvent_t handle) { return pool().handles.get(handle); }

void forbid_captured(const Event::Position& recorded, const char* function) {
  if (recorded.capture) fail_captured_event(function);
}

}  // namespace

void Event::configure(Device& device, unsigned int flags) {
  std::lock_guard lock(mutex_);
  device_ = &device;
  flags_ = flags;
}

void Event::retire() {
  std::lock_guard lock(mutex_);
  stream_ = nullptr;
  capture_.reset();
}

void Event::record(Stream& stream) {
  uint64_t ticket;
  bool timed;
  {
    std::lock_guard lock(mutex_);
    ticket = ++ticket_;
    timed = (flags_ & gxuEventDisableTiming) == 0;
  }
  std::shared_ptr<Capture> capture = stream.capture();
  const uint64_t position = timed ? stream.enqueue(Stamp{this, ticket}) : stream.enqueued();
  std::lock_guard lock(mutex_);
  if (ticket != ticket_) return;  // recorded again meanwhile: that recording counts
  stream_ = &stream;
  position_ = position;
  capture_ = std::move(capture);
}

Event::Position Event::position() const {
  std::lock_guard lock(mutex_);
  return {stream_, position_, capture_};
}

bool Event::is_finished() const {
  std::lock_guard lock(mutex_);
  return stream_ == nullptr || stream_->has_finished(position_);
}

void Event::stamp(uint64_t ticket) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  std::lock_guard lock(mutex_);
  if (ticket == ticket_) time_ = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

void Event::require_timed() const {
  std::lock_guard lock(mutex_);
  if ((flags_ & gxuEventDisableTiming) != 0) {
    fail(gxuErrorInvalidHandle, "gxuEventElapsedTime: the event was created with gxuEventDisableTiming");
  }
  if (stream_ == nullptr) fail(gxuErrorInvalidHandle, "gxuEventElapsedTime: the event has never been recorded");
}

int64_t Event::time() const {
  std::lock_guard lock(mutex_);
  return time_;
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuEventCreate(gxuEvent_t* event, unsigned int flags) {
  return api([&] {
    require_argument(event, "event");
    if ((flags & gxuEventInterprocess) != 0) {
      fail(gxuErrorNotSupported, "the host engine has no interprocess events");
    }
    if ((flags & ~kKnownFlags) != 0) fail(gxuErrorInvalidValue, "unknown event flags 0x%x", flags & ~kKnownFlags);
    Event& created = acquire_event();
    try {
      created.configure(current_device(), flags);
      *event = pool().handles.insert(&created);
    } catch (...) {
      return_event(created);
      throw;
    }
  });
}

gxuError_t gxuEventDestroy(gxuEvent_t event) {
  return api([&] {
    Event& found = resolve_event(event);
    pool().handles.take(event);
    found.retire();
    return_event(found);
  });
}

gxuError_t gxuEventRecord(gxuEvent_t event, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuEventRecord");
    Event& found = resolve_event(event);
    Stream& target = resolve_stream(stream);
    require_device_of_event(found.device().index(), target.device().index());
    target.order_with_default_stream();
    found.record(target);
  });
}

gxuError_t gxuEventQuery(gxuEvent_t event) {
  return api([&] {
    const Event& found = resolve_event(event);
    forbid_captured(found.position(), "gxuEventQuery");
    return found.is_finished() ? gxuSuccess : gxuErrorNotReady;
  });
}

gxuError_t gxuEventSynchronize(gxuEvent_t event) {
  return api([&] {
    Event& found = resolve_event(event);
    forbid_in_host_function("gxuEventSynchronize");
    const Event::Position recorded = found.position();
    if (recorded.stream == nullptr) return;
    forbid_captured(recorded, "gxuEventSynchronize");
    recorded.stream->wait_until(recorded.position);
    recorded.stream->device().report_failure();
  });
}

gxuError_t gxuEventElapsedTime(float* milliseconds, gxuEvent_t start, gxuEvent_t end) {
  return api([&] {
    require_argument(milliseconds, "milliseconds");
    const Event& first = resolve_event(start);
    const Event& second = resolve_event(end);
    require_same_device(first.device().index(), second.device().index());
    first.require_timed();
    second.require_timed();
    if (!first.is_finished() || !second.is_finished()) return gxuErrorNotReady;
    *milliseconds = static_cast<float>(static_cast<double>(second.time() - first.time()) * 1e-6);
    return gxuSuccess;
  });
}

gxuError_t gxuStreamWaitEvent(gxuStream_t stream, gxuEvent_t event, unsigned int flags) {
  return api([&] {
    if (flags != 0) fail(gxuErrorInvalidValue, "gxuStreamWaitEvent: flags must be 0, not 0x%x", flags);
    forbid_in_host_function("gxuStreamWaitEvent");
    Stream& target = resolve_stream(stream);
    const Event::Position recorded = resolve_event(event).position();
    if (recorded.stream == nullptr) return;
    if (recorded.capture || target.capture()) {
      wait_in_capture(target, recorded);
      return;
    }
    if (recorded.stream == &target || recorded.stream->has_finished(recorded.position)) return;
    target.order_with_default_stream();
    target.enqueue(Wait{recorded.stream, recorded.position});
  });
}
