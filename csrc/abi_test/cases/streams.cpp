// STREAMS AND ORDER, gxuStream*.
#include <climits>

#include "support.h"

namespace gxu::abi_test {
namespace {

// Whether pinned[0] becomes 1 by a fill on `stream` while the gate stays closed.
bool runs_beside(gxuStream_t stream, const Pinned& pinned) {
  OK(rt.gxuMemsetAsync(pinned, 1, 1, stream));
  return eventually([&] { return pinned[0] == 1; });
}

// Whether a fill on `stream` is still to come a moment later.
bool is_held(gxuStream_t stream, const Pinned& pinned) {
  OK(rt.gxuMemsetAsync(pinned, 1, 1, stream));
  std::this_thread::sleep_for(kMoment);
  return pinned[0] == 0;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(streams)

ABI_CASE(order, "Work on one stream executes in the order of the calls") {
  Stream stream;
  Memory digit(1), digits(400);
  for (int i = 0; i < 400; ++i) {
    OK(rt.gxuMemsetAsync(digit, i % 251, 1, stream));
    OK(rt.gxuMemcpyAsync(digits.at(static_cast<size_t>(i)), digit, 1, gxuMemcpyDeviceToDevice, stream));
  }
  const Bytes found = download(digits, 400, stream);
  for (int i = 0; i < 400; ++i)
    BOOST_REQUIRE_MESSAGE(found[static_cast<size_t>(i)] == i % 251, "copy " << i << " came at another time");
}

ABI_CASE(enqueue_returns, "Functions that enqueue return before the work is done") {
  Stream stream, other;
  Event event;
  Memory memory(4096);
  Pinned pinned(4096);
  Gate gate(stream);
  check_does_not_wait(gate, "gxuMemsetAsync", [&] { return rt.gxuMemsetAsync(memory, 1, 4096, stream); });
  check_does_not_wait(gate, "gxuMemcpyAsync",
                      [&] { return rt.gxuMemcpyAsync(pinned, memory, 4096, gxuMemcpyDeviceToHost, stream); });
  check_does_not_wait(gate, "gxuEventRecord", [&] { return rt.gxuEventRecord(event, stream); });
  check_does_not_wait(gate, "gxuStreamWaitEvent", [&] { return rt.gxuStreamWaitEvent(other, event, 0); });
  check_does_not_wait(gate, "gxuLaunchHostFunc", [&] { return rt.gxuLaunchHostFunc(stream, [](void*) {}, nullptr); });
  BOOST_TEST(pinned[0] == 0);
  BOOST_TEST(!gate.timed_out());
}

ABI_CASE(progress, "Queued work makes progress without any further call") {
  Stream stream;
  Pinned pinned(64);
  std::atomic<bool> called = false;
  OK(rt.gxuMemsetAsync(pinned, 1, 64, stream));
  OK(rt.gxuLaunchHostFunc(stream, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &called));
  BOOST_REQUIRE_MESSAGE(eventually([&] { return called.load(); }), "nothing happened without a call that waits");
  BOOST_TEST(pinned[63] == 1);
}

ABI_CASE(independence, "Streams that no event orders do not wait for each other's calls") {
  Stream held, free;
  Pinned pinned(1);
  Gate gate(held);
  BOOST_CHECK_MESSAGE(runs_beside(free, pinned), "work on one stream waited for another's host function");
  gate.open();
}

ABI_CASE(default_stream_first, "A gxuStreamDefault stream waits for the default stream's earlier work") {
  Stream stream(gxuStreamDefault);
  Pinned pinned(1);
  Gate gate(nullptr);
  BOOST_CHECK_MESSAGE(is_held(stream, pinned), "the stream did not wait");
  gate.open();
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(default_stream_second, "The default stream waits for the earlier work of gxuStreamDefault streams") {
  Stream stream(gxuStreamDefault);
  Pinned pinned(1);
  Gate gate(stream);
  BOOST_CHECK_MESSAGE(is_held(nullptr, pinned), "the default stream did not wait");
  gate.open();
  OK(rt.gxuStreamSynchronize(nullptr));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(non_blocking, "A gxuStreamNonBlocking stream is not ordered with the default stream") {
  Stream stream(gxuStreamNonBlocking);
  Pinned pinned(1), second(1);
  {
    Gate gate(nullptr);
    BOOST_CHECK_MESSAGE(runs_beside(stream, pinned), "the stream waited for the default stream");
  }
  OK(rt.gxuStreamSynchronize(nullptr));
  Gate gate(stream);
  BOOST_CHECK_MESSAGE(runs_beside(nullptr, second), "the default stream waited for the stream");
}

ABI_CASE(null_is_the_current_devices, "A NULL stream is the default stream of the calling thread's current device") {
  need_two_devices();
  Pinned pinned(1);
  Gate gate(nullptr);  // device 0's
  OnDevice second(1);
  OK(rt.gxuMemsetAsync(pinned, 1, 1, nullptr));
  Background wait([] {
    rt.gxuSetDevice(1);
    return rt.gxuStreamSynchronize(nullptr);
  });
  BOOST_CHECK_MESSAGE(wait.done_within(patience() / 2), "device 1's default stream waited for device 0's");
  gate.open();
  BOOST_TEST(wait.code() == gxuSuccess);
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(synchronize,
         "gxuStreamSynchronize blocks until all earlier work of the stream has finished, and for it alone") {
  Stream stream, other;
  Gate beside(other);
  {
    Gate gate(stream);
    check_waits(gate, "gxuStreamSynchronize", [&] { return rt.gxuStreamSynchronize(stream); });
  }
  check_does_not_wait(beside, "gxuStreamSynchronize of another stream",
                      [&] { return rt.gxuStreamSynchronize(stream); });
  beside.open();
  Gate gate(nullptr);
  check_waits(gate, "gxuStreamSynchronize of the default stream", [] { return rt.gxuStreamSynchronize(nullptr); });
}

ABI_CASE(query, "gxuStreamQuery gives gxuErrorNotReady until the stream's work has finished, without blocking") {
  Stream stream;
  GIVES(gxuSuccess, rt.gxuStreamQuery(stream));
  GIVES(gxuSuccess, rt.gxuStreamQuery(nullptr));
  Gate gate(stream);
  check_does_not_wait(gate, "gxuStreamQuery", [&] { return rt.gxuStreamQuery(stream); }, gxuErrorNotReady);
  GIVES(gxuErrorNotReady, rt.gxuStreamQuery(stream));
  gate.open();
  BOOST_TEST(eventually([&] { return rt.gxuStreamQuery(stream) == gxuSuccess; }));
}

ABI_CASE(create_does_not_wait, "gxuStreamCreate and gxuEventCreate do not wait for queued work") {
  Stream stream;
  gxuStream_t created = nullptr;
  gxuEvent_t event = nullptr;
  Gate gate(stream);
  check_does_not_wait(gate, "gxuStreamCreate", [&] { return rt.gxuStreamCreate(&created, gxuStreamNonBlocking, 0); });
  check_does_not_wait(gate, "gxuEventCreate", [&] { return rt.gxuEventCreate(&event, gxuEventDefault); });
  gate.open();
  OK(rt.gxuEventDestroy(event));
  OK(rt.gxuStreamDestroy(created));
}

ABI_CASE(create_arguments, "gxuStreamCreate refuses unknown flags with gxuErrorInvalidValue, and clamps priorities") {
  gxuStream_t stream = nullptr;
  GIVES(gxuErrorInvalidValue, rt.gxuStreamCreate(&stream, 2, 0));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamCreate(&stream, 0x80000000u, 0));
  Memory memory(64);
  for (const int priority : {INT_MIN, -1, 0, 1, INT_MAX}) {
    OK(rt.gxuStreamCreate(&stream, gxuStreamNonBlocking, priority));
    OK(rt.gxuMemsetAsync(memory, 3, 64, stream));
    OK(rt.gxuStreamDestroy(stream));
  }
}

ABI_CASE(priority_range, "gxuStreamGetPriorityRange gives the greatest priority as the numerically lowest") {
  int least = -99, greatest = 99;
  OK(rt.gxuStreamGetPriorityRange(&least, &greatest));
  BOOST_TEST(greatest <= least);
}

ABI_CASE(destroy, "gxuStreamDestroy blocks until the stream's work has finished, and refuses NULL") {
  Stream stream;
  Gate gate(stream);
  const gxuStream_t handle = stream.release();
  check_waits(gate, "gxuStreamDestroy", [=] { return rt.gxuStreamDestroy(handle); });
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamDestroy(nullptr));
}

ABI_CASE(many, "Streams and events by the hundred can be made, used and destroyed, again and again") {
  Memory memory(64);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<Stream>> streams;
    std::vector<std::unique_ptr<Event>> events;
    for (int i = 0; i < 100; ++i) {
      streams.push_back(std::make_unique<Stream>());
      events.push_back(std::make_unique<Event>());
      OK(rt.gxuMemsetAsync(memory, i, 64, *streams.back()));
      OK(rt.gxuEventRecord(*events.back(), *streams.back()));
    }
    for (const auto& event : events) OK(rt.gxuEventSynchronize(*event));
  }
}

ABI_CASE(destroyed_handles, "A destroyed or made-up handle gives gxuErrorInvalidHandle", OWN_PROCESS OPTIONAL) {
  start_library();
  Stream stream;
  Event event;
  const gxuStream_t dead_stream = stream.release();
  const gxuEvent_t dead_event = event.release();
  OK(rt.gxuStreamDestroy(dead_stream));
  OK(rt.gxuEventDestroy(dead_event));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamDestroy(dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamSynchronize(dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamQuery(dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuLaunchHostFunc(dead_stream, [](void*) {}, nullptr));
  Memory memory(64);
  Event live;
  gxuGraph_t graph;
  auto status = gxuStreamCaptureStatusNone;
  GIVES(gxuErrorInvalidHandle, rt.gxuMemsetAsync(memory, 0, 64, dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuMemcpyAsync(memory, memory.at(32), 32, gxuMemcpyDeviceToDevice, dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamWaitEvent(dead_stream, live, 0));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventRecord(live, dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamBeginCapture(dead_stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamEndCapture(dead_stream, &graph));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamIsCapturing(dead_stream, &status));
  if (rt.gxuStreamGetCaptureInfo != nullptr) {
    unsigned long long id = 0;
    GIVES(gxuErrorInvalidHandle, rt.gxuStreamGetCaptureInfo(dead_stream, &status, &id));
  }
  GIVES(gxuErrorInvalidHandle, rt.gxuEventDestroy(dead_event));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventQuery(dead_event));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventSynchronize(dead_event));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventRecord(dead_event, nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamWaitEvent(nullptr, dead_event, 0));
  float milliseconds;
  GIVES(gxuErrorInvalidHandle, rt.gxuEventElapsedTime(&milliseconds, dead_event, dead_event));
  long long room[16] = {};
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamSynchronize(reinterpret_cast<gxuStream_t>(room)));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventQuery(reinterpret_cast<gxuEvent_t>(room)));
  GIVES(gxuErrorInvalidHandle, rt.gxuModuleUnload(reinterpret_cast<gxuModule_t>(room)));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphDestroy(reinterpret_cast<gxuGraph_t>(room)));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphExecDestroy(reinterpret_cast<gxuGraphExec_t>(room)));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamSynchronize(reinterpret_cast<gxuStream_t>(live.handle)));
}

ABI_CASE(null_handles, "Handles other than a stream's have no NULL meaning: NULL gives gxuErrorInvalidHandle") {
  Stream stream;
  gxuGraphExec_t exec;
  gxuFunction_t function;
  GIVES(gxuErrorInvalidHandle, rt.gxuEventDestroy(nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventRecord(nullptr, stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventQuery(nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuEventSynchronize(nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuStreamWaitEvent(stream, nullptr, 0));
  GIVES(gxuErrorInvalidHandle, rt.gxuModuleUnload(nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuModuleGetFunction(&function, nullptr, "kernel"));
  GIVES(gxuErrorInvalidHandle, rt.gxuFuncSetAttribute(nullptr, gxuFuncAttributeMaxDynamicSharedMemorySize, 0));
  GIVES(gxuErrorInvalidHandle, rt.gxuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, stream, nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphInstantiate(&exec, nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphLaunch(nullptr, stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphDestroy(nullptr));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphExecDestroy(nullptr));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
