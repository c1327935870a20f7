// gxuEvent*, gxuStreamWaitEvent.
#include "support.h"

namespace gxu::abi_test {
namespace {

double wall_ms(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

void sleep_on(gxuStream_t stream) {
  OK(rt.gxuLaunchHostFunc(stream, [](void*) { std::this_thread::sleep_for(60ms); }, nullptr));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(events)

ABI_CASE(never_recorded, "An event is complete until it is recorded, and waiting for it changes nothing") {
  Event event;
  Stream stream;
  Pinned pinned(1);
  GIVES(gxuSuccess, rt.gxuEventQuery(event));
  OK(rt.gxuEventSynchronize(event));
  OK(rt.gxuStreamWaitEvent(stream, event, 0));
  OK(rt.gxuMemsetAsync(pinned, 1, 1, stream));
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(create_flags, "gxuEventCreate takes its flags, and refuses others with gxuErrorInvalidValue") {
  for (const unsigned flags : {0u, 1u, 2u, 3u}) Event event(flags);
  gxuEvent_t event = nullptr;
  GIVES(gxuErrorInvalidValue, rt.gxuEventCreate(&event, 8));
  const gxuError_t timed = rt.gxuEventCreate(&event, gxuEventInterprocess);
  BOOST_CHECK_MESSAGE(timed == gxuErrorInvalidValue || timed == gxuErrorNotSupported,
                      "gxuEventInterprocess without gxuEventDisableTiming gave " << describe(timed));
  const gxuError_t code = rt.gxuEventCreate(&event, gxuEventInterprocess | gxuEventDisableTiming);
  BOOST_CHECK_MESSAGE(code == gxuSuccess || code == gxuErrorNotSupported,
                      "gxuEventInterprocess gave " << describe(code));
  if (code == gxuSuccess) OK(rt.gxuEventDestroy(event));
}

ABI_CASE(query, "gxuEventQuery gives gxuErrorNotReady until the event's work has finished, without blocking") {
  for (const unsigned flags : {gxuEventDefault, gxuEventBlockingSync, gxuEventDisableTiming}) {
    Stream stream;
    Event event(flags);
    Gate gate(stream);
    OK(rt.gxuEventRecord(event, stream));
    check_does_not_wait(gate, "gxuEventQuery", [&] { return rt.gxuEventQuery(event); }, gxuErrorNotReady);
    gate.open();
    BOOST_TEST(eventually([&] { return rt.gxuEventQuery(event) == gxuSuccess; }));
  }
}

ABI_CASE(synchronize, "gxuEventSynchronize blocks until the work that the event stands for has finished") {
  for (const unsigned flags : {gxuEventDefault, gxuEventBlockingSync, gxuEventDisableTiming}) {
    Stream stream;
    Event event(flags);
    Gate gate(stream);
    OK(rt.gxuEventRecord(event, stream));
    check_waits(gate, "gxuEventSynchronize", [&] { return rt.gxuEventSynchronize(event); });
  }
}

ABI_CASE(later_work, "An event does not stand for work that is enqueued after it was recorded") {
  Stream stream;
  Event event;
  OK(rt.gxuEventRecord(event, stream));
  Gate gate(stream);
  check_does_not_wait(gate, "gxuEventSynchronize", [&] { return rt.gxuEventSynchronize(event); });
  GIVES(gxuSuccess, rt.gxuEventQuery(event));
}

ABI_CASE(recorded_again, "Recording an event again makes it stand for the new work instead") {
  Stream held, free;
  Event event;
  Gate gate(held);
  OK(rt.gxuEventRecord(event, held));
  GIVES(gxuErrorNotReady, rt.gxuEventQuery(event));
  OK(rt.gxuEventRecord(event, free));
  check_does_not_wait(gate, "gxuEventSynchronize", [&] { return rt.gxuEventSynchronize(event); });
}

ABI_CASE(wait, "Work enqueued after gxuStreamWaitEvent waits for the event, and work before it does not") {
  Stream first, second;
  Event event;
  Pinned before(1), after(1);
  Gate gate(first);
  OK(rt.gxuEventRecord(event, first));
  OK(rt.gxuMemsetAsync(before, 1, 1, second));
  OK(rt.gxuStreamWaitEvent(second, event, 0));
  OK(rt.gxuMemsetAsync(after, 1, 1, second));
  BOOST_TEST(eventually([&] { return before[0] == 1; }));
  std::this_thread::sleep_for(kMoment);
  BOOST_CHECK_MESSAGE(after[0] == 0, "the stream did not wait for the event");
  gate.open();
  OK(rt.gxuStreamSynchronize(second));
  BOOST_TEST(after[0] == 1);
}

ABI_CASE(default_stream_waits, "The default stream may wait for an event") {
  Stream stream;
  Event event;
  Pinned pinned(1);
  Gate gate(stream);
  OK(rt.gxuEventRecord(event, stream));
  OK(rt.gxuStreamWaitEvent(nullptr, event, 0));
  OK(rt.gxuMemsetAsync(pinned, 1, 1, nullptr));
  std::this_thread::sleep_for(kMoment);
  BOOST_CHECK_MESSAGE(pinned[0] == 0, "the default stream did not wait for the event");
  gate.open();
  OK(rt.gxuStreamSynchronize(nullptr));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(wait_takes_the_recording,
         "A wait is for the recording at the time of the call; the event may be recorded again") {
  Stream first, second, third;
  Event event;
  Pinned pinned(1);
  OK(rt.gxuEventRecord(event, first));
  OK(rt.gxuStreamWaitEvent(second, event, 0));
  Gate gate(third);
  OK(rt.gxuEventRecord(event, third));
  OK(rt.gxuMemsetAsync(pinned, 1, 1, second));
  BOOST_CHECK_MESSAGE(eventually([&] { return pinned[0] == 1; }), "the stream waits for a later recording");
}

ABI_CASE(wait_outlives_the_event, "A wait that was enqueued stays valid when its event is destroyed") {
  Stream first, second;
  Event event;
  Pinned pinned(1);
  Gate gate(first);
  OK(rt.gxuEventRecord(event, first));
  OK(rt.gxuStreamWaitEvent(second, event, 0));
  const gxuEvent_t handle = event.release();
  check_does_not_wait(gate, "gxuEventDestroy", [=] { return rt.gxuEventDestroy(handle); });
  OK(rt.gxuMemsetAsync(pinned, 1, 1, second));
  std::this_thread::sleep_for(kMoment);
  BOOST_CHECK_MESSAGE(pinned[0] == 0, "the wait went with the event");
  gate.open();
  OK(rt.gxuStreamSynchronize(second));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(wait_flags, "gxuStreamWaitEvent refuses flags other than 0 with gxuErrorInvalidValue") {
  Stream stream;
  Event event;
  GIVES(gxuErrorInvalidValue, rt.gxuStreamWaitEvent(stream, event, 1));
}

ABI_CASE(wait_across_devices, "A stream of one device may wait for an event of another") {
  need_two_devices();
  Stream near;
  Event event;
  Gate gate(near);
  OK(rt.gxuEventRecord(event, near));
  OnDevice second(1);
  Stream far;
  Pinned pinned(1);
  OK(rt.gxuStreamWaitEvent(far, event, 0));
  OK(rt.gxuMemsetAsync(pinned, 1, 1, far));
  std::this_thread::sleep_for(kMoment);
  BOOST_TEST(pinned[0] == 0);
  gate.open();
  OK(rt.gxuStreamSynchronize(far));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(two_devices, "Recording an event on a stream of another device gives gxuErrorInvalidHandle") {
  need_two_devices();
  Event near;
  Stream stream;
  OnDevice second(1);
  Event far;
  GIVES(gxuErrorInvalidHandle, rt.gxuEventRecord(far, stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventRecord(near, nullptr));
}

ABI_CASE(elapsed_time, "gxuEventElapsedTime gives the milliseconds between two points of a stream") {
  Stream stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  const auto began = std::chrono::steady_clock::now();
  OK(rt.gxuEventRecord(first, stream));
  sleep_on(stream);
  OK(rt.gxuEventRecord(second, stream));
  OK(rt.gxuStreamSynchronize(stream));
  float milliseconds = -1;
  OK(rt.gxuEventElapsedTime(&milliseconds, first, second));
  BOOST_CHECK_MESSAGE(milliseconds > 50, "60 ms of work took " << milliseconds);
  BOOST_CHECK_MESSAGE(milliseconds < wall_ms(began) + 1,
                      "the events say " << milliseconds << " ms, the clock " << wall_ms(began));
}

ABI_CASE(negative_time, "The time is negative where `start` was reached after `end`") {
  Stream stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  OK(rt.gxuEventRecord(first, stream));
  sleep_on(stream);
  OK(rt.gxuEventRecord(second, stream));
  OK(rt.gxuStreamSynchronize(stream));
  float forth = 0, back = 0;
  OK(rt.gxuEventElapsedTime(&forth, first, second));
  OK(rt.gxuEventElapsedTime(&back, second, first));
  BOOST_TEST(back < -50);
  BOOST_TEST(std::abs(forth + back) < 0.01);
}

ABI_CASE(time_of_the_stream, "An event gets its time when the stream reaches it, not when it is recorded") {
  Stream stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  Gate gate(stream);
  OK(rt.gxuEventRecord(first, stream));
  std::this_thread::sleep_for(100ms);  // between the two calls, while neither has been reached
  OK(rt.gxuEventRecord(second, stream));
  gate.open();
  OK(rt.gxuStreamSynchronize(stream));
  float milliseconds = -1;
  OK(rt.gxuEventElapsedTime(&milliseconds, first, second));
  BOOST_CHECK_MESSAGE(milliseconds < 50, "the time between the calls was counted: " << milliseconds << " ms");
}

ABI_CASE(time_of_two_streams, "Times of two streams of a device are on one clock") {
  Stream first_stream, second_stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  const auto began = std::chrono::steady_clock::now();
  OK(rt.gxuEventRecord(first, first_stream));
  OK(rt.gxuEventSynchronize(first));
  std::this_thread::sleep_for(60ms);
  OK(rt.gxuEventRecord(second, second_stream));
  OK(rt.gxuEventSynchronize(second));
  float milliseconds = -1;
  OK(rt.gxuEventElapsedTime(&milliseconds, first, second));
  BOOST_TEST(milliseconds > 50);
  BOOST_TEST(milliseconds < wall_ms(began) + 1);
}

ABI_CASE(time_of_the_latest_recording, "Recording an event again gives it a new time") {
  Stream stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  OK(rt.gxuEventRecord(first, stream));
  OK(rt.gxuEventRecord(second, stream));
  OK(rt.gxuStreamSynchronize(stream));
  std::this_thread::sleep_for(60ms);
  OK(rt.gxuEventRecord(second, stream));
  OK(rt.gxuStreamSynchronize(stream));
  float milliseconds = -1;
  OK(rt.gxuEventElapsedTime(&milliseconds, first, second));
  BOOST_TEST(milliseconds > 50);
}

ABI_CASE(no_time, "Events without a time, and those of two devices, give gxuErrorInvalidHandle") {
  Stream stream;
  Event timed(gxuEventDefault), never(gxuEventDefault), untimed(gxuEventDisableTiming);
  OK(rt.gxuEventRecord(timed, stream));
  OK(rt.gxuEventRecord(untimed, stream));
  OK(rt.gxuStreamSynchronize(stream));
  float milliseconds;
  GIVES(gxuErrorInvalidHandle, rt.gxuEventElapsedTime(&milliseconds, timed, never));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventElapsedTime(&milliseconds, never, timed));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventElapsedTime(&milliseconds, timed, untimed));
  if (session().device_count > 1) {
    OnDevice second(1);
    Event far(gxuEventDefault);
    OK(rt.gxuEventRecord(far, nullptr));
    OK(rt.gxuEventSynchronize(far));
    GIVES(gxuErrorInvalidHandle, rt.gxuEventElapsedTime(&milliseconds, timed, far));
  }
}

ABI_CASE(time_not_ready,
         "gxuEventElapsedTime gives gxuErrorNotReady while an event has not been reached, without blocking") {
  Stream stream;
  Event first(gxuEventDefault), second(gxuEventDefault);
  OK(rt.gxuEventRecord(first, stream));
  Gate gate(stream);
  OK(rt.gxuEventRecord(second, stream));
  float milliseconds;
  check_does_not_wait(
      gate, "gxuEventElapsedTime", [&] { return rt.gxuEventElapsedTime(&milliseconds, first, second); },
      gxuErrorNotReady);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
