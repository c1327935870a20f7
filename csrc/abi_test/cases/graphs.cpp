// Capture and replay.
#include <cstring>

#include "support.h"

namespace gxu::abi_test {
namespace {

gxuStreamCaptureStatus status_of(gxuStream_t stream) {
  auto status = static_cast<gxuStreamCaptureStatus>(99);
  OK(rt.gxuStreamIsCapturing(stream, &status));
  return status;
}

// Ends a capture that should end well.
void finish(gxuStream_t stream, Graph& graph, GraphExec& exec) {
  OK(rt.gxuStreamEndCapture(stream, &graph.handle));
  OK(rt.gxuGraphInstantiate(&exec.handle, graph));
}

// Ends a capture, whatever became of it, when a case leaves.
struct Capture {
  explicit Capture(gxuStream_t on) : stream(on) { OK(rt.gxuStreamBeginCapture(stream)); }
  ~Capture() {
    gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
    rt.gxuStreamIsCapturing(stream, &status);
    gxuGraph_t graph = nullptr;
    if (status != gxuStreamCaptureStatusNone && rt.gxuStreamEndCapture(stream, &graph) == gxuSuccess) {
      rt.gxuGraphDestroy(graph);
    }
  }
  gxuStream_t stream;
};

// `call` is refused on a capturing stream, and the capture is then invalid.
void check_invalidates(const char* what, const std::function<gxuError_t(gxuStream_t)>& call) {
  BOOST_TEST_CONTEXT(what) {
    Stream stream;
    Capture capture(stream);
    GIVES(gxuErrorStreamCaptureUnsupported, call(stream));
    BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusInvalidated);
    Memory memory(64);
    GIVES(gxuErrorStreamCaptureInvalidated, rt.gxuMemsetAsync(memory, 1, 64, stream));
    gxuGraph_t graph = nullptr;
    GIVES(gxuErrorStreamCaptureInvalidated, rt.gxuStreamEndCapture(stream, &graph));
    BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusNone);
    OK(rt.gxuMemsetAsync(memory, 1, 64, stream));  // the stream works again
    BOOST_TEST(all_equal(download(memory, 64, stream), 1));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(graphs)

ABI_CASE(capture, "What is enqueued on a capturing stream is not executed, and gxuGraphLaunch runs it each time") {
  Stream stream;
  Memory memory(64), copy(64);
  OK(rt.gxuMemsetAsync(memory, 1, 64, stream));
  OK(rt.gxuMemsetAsync(copy, 1, 64, stream));
  Capture capture(stream);
  OK(rt.gxuMemsetAsync(memory, 2, 64, stream));
  OK(rt.gxuMemcpyAsync(copy, memory, 64, gxuMemcpyDeviceToDevice, stream));
  Graph graph;
  GraphExec exec;
  finish(stream, graph, exec);
  BOOST_CHECK_MESSAGE(all_equal(download(memory, 64, stream), 1), "captured work was executed");
  for (int replay = 0; replay < 3; ++replay) {
    OK(rt.gxuMemsetAsync(copy, 9, 64, stream));
    OK(rt.gxuGraphLaunch(exec, stream));
    BOOST_TEST(all_equal(download(copy, 64, stream), 2));
  }
}

ABI_CASE(status, "gxuStreamIsCapturing says whether the stream is capturing, without disturbing it") {
  Stream stream, other;
  Memory memory(64);
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusNone);
  Capture capture(stream);
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusActive);
  BOOST_TEST(status_of(other) == gxuStreamCaptureStatusNone);
  BOOST_TEST(status_of(nullptr) == gxuStreamCaptureStatusNone);
  OK(rt.gxuMemsetAsync(memory, 2, 64, stream));
  Graph graph;
  OK(rt.gxuStreamEndCapture(stream, &graph.handle));
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusNone);
}

ABI_CASE(numbers, "gxuStreamGetCaptureInfo gives each capture a number of its own, and 0 outside") {
  if (rt.gxuStreamGetCaptureInfo == nullptr) skip("the library leaves out gxuStreamGetCaptureInfo, as it may");
  Stream stream;
  unsigned long long outside = 99, first = 0, again = 0, second = 0;
  gxuStreamCaptureStatus status;
  OK(rt.gxuStreamGetCaptureInfo(stream, &status, &outside));
  BOOST_TEST(outside == 0u);
  BOOST_TEST(status == gxuStreamCaptureStatusNone);
  {
    Capture capture(stream);
    OK(rt.gxuStreamGetCaptureInfo(stream, &status, &first));
    OK(rt.gxuStreamGetCaptureInfo(stream, &status, &again));
    BOOST_TEST(status == gxuStreamCaptureStatusActive);
  }
  Capture capture(stream);
  OK(rt.gxuStreamGetCaptureInfo(stream, &status, &second));
  Stream beside, joined;
  Event event;
  unsigned long long third = 0, of_joined = 0;
  {
    Capture at_the_same_time(beside);
    OK(rt.gxuStreamGetCaptureInfo(beside, &status, &third));
    OK(rt.gxuEventRecord(event, beside));
    OK(rt.gxuStreamWaitEvent(joined, event, 0));
    OK(rt.gxuStreamGetCaptureInfo(joined, &status, &of_joined));
    BOOST_TEST(status == gxuStreamCaptureStatusActive);
  }
  BOOST_TEST(third != second);
  BOOST_TEST(of_joined == third);
  OK(rt.gxuStreamGetCaptureInfo(joined, &status, &of_joined));
  BOOST_TEST(of_joined == 0u);
  BOOST_TEST(first != 0u);
  BOOST_TEST(first == again);
  BOOST_TEST(second != first);
  BOOST_TEST(second != 0u);
}

ABI_CASE(kernels, "Replays run kernels with the parameter values and addresses of the capture, in order") {
  Kernel kernel;
  Stream stream;
  Memory out(4);
  OK(rt.gxuMemsetAsync(out, 0, 4, stream));
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    for (int32_t digit = 1; digit <= 3; ++digit) OK(kernel.launch(out, digit, 1, stream));
    finish(stream, graph, exec);
  }
  for (int replay = 0; replay < 2; ++replay) OK(rt.gxuGraphLaunch(exec, stream));
  int32_t found;
  std::memcpy(&found, download(out, 4, stream).data(), 4);
  BOOST_TEST(found == 123123);
}

ABI_CASE(unloaded_module, "Graphs that captured launches stay usable when the module is unloaded") {
  Stream stream;
  Memory out(4);
  OK(rt.gxuMemsetAsync(out, 0, 4, stream));
  Graph graph;
  GraphExec exec;
  {
    Kernel kernel;
    Capture capture(stream);
    OK(kernel.launch(out, 7, 1, stream));
    finish(stream, graph, exec);
  }
  OK(rt.gxuGraphLaunch(exec, stream));
  int32_t found;
  std::memcpy(&found, download(out, 4, stream).data(), 4);
  BOOST_TEST(found == 7);
}

ABI_CASE(host_functions, "Host functions are captured, and called at each replay") {
  std::atomic<int> calls = 0;
  Stream stream;
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    OK(rt.gxuLaunchHostFunc(stream, [](void* count) { ++*static_cast<std::atomic<int>*>(count); }, &calls));
    finish(stream, graph, exec);
  }
  BOOST_TEST(calls == 0);
  for (int replay = 0; replay < 3; ++replay) OK(rt.gxuGraphLaunch(exec, stream));
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(calls == 3);
}

ABI_CASE(joined_streams, "A stream that waits for an event recorded in the capture joins it") {
  Stream stream, joined;
  Event fork, join;
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 1, 64, stream));
  OK(rt.gxuStreamSynchronize(stream));
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    OK(rt.gxuEventRecord(fork, stream));
    OK(rt.gxuStreamWaitEvent(joined, fork, 0));
    BOOST_TEST(status_of(joined) == gxuStreamCaptureStatusActive);
    OK(rt.gxuMemsetAsync(memory, 2, 32, joined));
    OK(rt.gxuEventRecord(join, joined));
    OK(rt.gxuStreamWaitEvent(stream, join, 0));
    OK(rt.gxuMemsetAsync(memory.at(32), 3, 32, stream));
    gxuGraph_t none = nullptr;
    GIVES(gxuErrorStreamCaptureUnmatched, rt.gxuStreamEndCapture(joined, &none));
    BOOST_CHECK_MESSAGE(status_of(stream) == gxuStreamCaptureStatusActive,
                        "ending it on a joined stream ended the capture");
    finish(stream, graph, exec);
  }
  BOOST_TEST(status_of(joined) == gxuStreamCaptureStatusNone);
  BOOST_TEST(all_equal(download(memory, 64, stream), 1));
  OK(rt.gxuGraphLaunch(exec, stream));
  const Bytes found = download(memory, 64, stream);
  BOOST_TEST(all_equal(Bytes(found.begin(), found.begin() + 32), 2));
  BOOST_TEST(all_equal(Bytes(found.begin() + 32, found.end()), 3));
}

ABI_CASE(threads, "A capture is the process's: other threads may enqueue on its stream, and end it") {
  Stream stream;
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 1, 64, stream));
  OK(rt.gxuStreamSynchronize(stream));
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    Background enqueue([&] { return rt.gxuMemsetAsync(memory, 2, 64, stream); });
    BOOST_TEST(enqueue.code() == gxuSuccess);
    Background end([&] { return rt.gxuStreamEndCapture(stream, &graph.handle); });
    BOOST_REQUIRE_MESSAGE(end.code() == gxuSuccess, end.message());
  }
  BOOST_TEST(all_equal(download(memory, 64, stream), 1));
  OK(rt.gxuGraphInstantiate(&exec.handle, graph));
  OK(rt.gxuGraphLaunch(exec, nullptr));
  BOOST_TEST(all_equal(download(memory, 64), 2));
}

ABI_CASE(beside_queued_work, "Capturing does not wait for what was enqueued on the stream before") {
  Stream stream;
  Memory memory(64);
  Graph graph;
  Gate gate(stream);
  auto status = gxuStreamCaptureStatusNone;
  check_does_not_wait(gate, "gxuStreamBeginCapture", [&] { return rt.gxuStreamBeginCapture(stream); });
  check_does_not_wait(gate, "gxuMemsetAsync", [&] { return rt.gxuMemsetAsync(memory, 1, 64, stream); });
  check_does_not_wait(gate, "gxuStreamIsCapturing", [&] { return rt.gxuStreamIsCapturing(stream, &status); });
  check_does_not_wait(gate, "gxuStreamEndCapture", [&] { return rt.gxuStreamEndCapture(stream, &graph.handle); });
  BOOST_TEST(status == gxuStreamCaptureStatusActive);
  const gxuGraph_t handle = graph.release();
  check_does_not_wait(gate, "gxuGraphDestroy", [=] { return rt.gxuGraphDestroy(handle); });
}

ABI_CASE(two_executables, "gxuGraphInstantiate makes a copy each time, with a life of its own") {
  Stream stream;
  Memory memory(64);
  Graph graph;
  GraphExec second;
  {
    Capture capture(stream);
    OK(rt.gxuMemsetAsync(memory, 3, 64, stream));
    GraphExec first;
    finish(stream, graph, first);
    OK(rt.gxuGraphInstantiate(&second.handle, graph));
    BOOST_TEST(first.handle != second.handle);
  }
  OK(rt.gxuGraphLaunch(second, stream));
  BOOST_TEST(all_equal(download(memory, 64, stream), 3));
}

ABI_CASE(one_piece_of_work,
         "A replay is one piece of its stream's work: what is before it comes first, what follows waits") {
  Stream stream;
  Memory memory(64), copy(64);
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    OK(rt.gxuMemcpyAsync(copy, memory, 64, gxuMemcpyDeviceToDevice, stream));
    finish(stream, graph, exec);
  }
  Stream other;
  Pinned after(64);
  Gate gate(other);
  check_does_not_wait(gate, "gxuGraphLaunch", [&] { return rt.gxuGraphLaunch(exec, other); });
  gate.open();
  for (int value = 1; value < 20; ++value) {
    OK(rt.gxuMemsetAsync(memory, value, 64, other));
    OK(rt.gxuGraphLaunch(exec, other));
    OK(rt.gxuMemcpyAsync(after, copy, 64, gxuMemcpyDeviceToHost, other));
    OK(rt.gxuStreamSynchronize(other));
    BOOST_REQUIRE(after[0] == value);
    BOOST_REQUIRE(after[63] == value);
  }
}

ABI_CASE(lives, "The graph may be destroyed once instantiated, and the executable while replays are in flight") {
  Stream stream;
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 1, 64, stream));
  gxuGraph_t graph = nullptr;
  gxuGraphExec_t exec = nullptr;
  {
    Capture capture(stream);
    OK(rt.gxuMemsetAsync(memory, 2, 64, stream));
    OK(rt.gxuStreamEndCapture(stream, &graph));
  }
  OK(rt.gxuGraphInstantiate(&exec, graph));
  OK(rt.gxuGraphDestroy(graph));
  Gate gate(stream);
  OK(rt.gxuGraphLaunch(exec, stream));
  check_does_not_wait(gate, "gxuGraphExecDestroy", [=] { return rt.gxuGraphExecDestroy(exec); });
  gate.open();
  BOOST_TEST(all_equal(download(memory, 64, stream), 2));
}

ABI_CASE(empty, "A capture of nothing is a graph that does nothing") {
  Stream stream;
  Graph graph;
  GraphExec exec;
  {
    Capture capture(stream);
    finish(stream, graph, exec);
  }
  OK(rt.gxuGraphLaunch(exec, stream));
  OK(rt.gxuStreamSynchronize(stream));
}

ABI_CASE(begin_errors, "gxuStreamBeginCapture refuses the default stream, and a stream that is capturing already") {
  GIVES(gxuErrorStreamCaptureUnsupported, rt.gxuStreamBeginCapture(nullptr));
  BOOST_TEST(status_of(nullptr) == gxuStreamCaptureStatusNone);
  Stream stream;
  Capture capture(stream);
  GIVES(gxuErrorInvalidValue, rt.gxuStreamBeginCapture(stream));
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusActive);
}

ABI_CASE(end_errors, "gxuStreamEndCapture of a stream that is not capturing gives gxuErrorInvalidValue") {
  Stream stream;
  gxuGraph_t graph = nullptr;
  GIVES(gxuErrorInvalidValue, rt.gxuStreamEndCapture(stream, &graph));
  Capture capture(stream);
  GIVES(gxuErrorInvalidValue, rt.gxuStreamEndCapture(stream, nullptr));
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusActive);
}

ABI_CASE(waiting, "Waiting for a capturing stream is not supported, and makes the capture invalid") {
  check_invalidates("gxuStreamSynchronize", [](gxuStream_t stream) { return rt.gxuStreamSynchronize(stream); });
  check_invalidates("gxuDeviceSynchronize", [](gxuStream_t) { return rt.gxuDeviceSynchronize(); });
}

ABI_CASE(querying, "Querying a capturing stream is not supported, and makes the capture invalid") {
  check_invalidates("gxuStreamQuery", [](gxuStream_t stream) { return rt.gxuStreamQuery(stream); });
}

ABI_CASE(pageable_copies,
         "Copying pageable memory on a capturing stream is not supported, and makes the capture invalid") {
  Memory memory(64);
  Bytes bytes(64);
  check_invalidates("gxuMemcpyAsync", [&](gxuStream_t stream) {
    return rt.gxuMemcpyAsync(memory, bytes.data(), 64, gxuMemcpyHostToDevice, stream);
  });
}

ABI_CASE(outside_events, "A capturing stream cannot wait for an event from outside its capture") {
  Event event;
  Stream other;
  OK(rt.gxuEventRecord(event, other));
  check_invalidates("gxuStreamWaitEvent", [&](gxuStream_t stream) { return rt.gxuStreamWaitEvent(stream, event, 0); });
}

ABI_CASE(captured_events, "An event that was last recorded in a capture cannot be queried or waited for") {
  Stream stream, other;
  Event event;
  {
    Capture capture(stream);
    OK(rt.gxuEventRecord(event, stream));
    GIVES(gxuErrorStreamCaptureUnsupported, rt.gxuEventQuery(event));
    Graph graph;
    OK(rt.gxuStreamEndCapture(stream, &graph.handle));
  }
  GIVES(gxuErrorStreamCaptureUnsupported, rt.gxuEventQuery(event));
  GIVES(gxuErrorStreamCaptureUnsupported, rt.gxuEventSynchronize(event));
  GIVES(gxuErrorInvalidValue, rt.gxuStreamWaitEvent(other, event, 0));
  OK(rt.gxuEventRecord(event, other));  // outside, it is an event like any other
  OK(rt.gxuEventSynchronize(event));
}

ABI_CASE(other_calls, "Allocating, making objects and working on other streams go on while a stream captures") {
  Stream stream;
  Memory memory(64), captured(64);
  Capture capture(stream);
  OK(rt.gxuMemsetAsync(captured, 2, 64, stream));
  {
    Stream other;
    Event event;
    Memory more(4096);
    OK(rt.gxuMemsetAsync(more, 5, 4096, other));
    OK(rt.gxuEventRecord(event, other));
    OK(rt.gxuEventSynchronize(event));
    BOOST_TEST(all_equal(download(more, 4096, other), 5));
    size_t free, total;
    OK(rt.gxuMemGetInfo(&free, &total));
  }
  BOOST_TEST(status_of(stream) == gxuStreamCaptureStatusActive);
  Graph graph;
  OK(rt.gxuStreamEndCapture(stream, &graph.handle));
}

ABI_CASE(destroyed_graphs, "A destroyed graph gives gxuErrorInvalidHandle", OWN_PROCESS OPTIONAL) {
  start_library();
  Stream stream;
  gxuGraph_t graph = nullptr;
  gxuGraphExec_t exec = nullptr, second = nullptr;
  OK(rt.gxuStreamBeginCapture(stream));
  OK(rt.gxuStreamEndCapture(stream, &graph));
  OK(rt.gxuGraphInstantiate(&exec, graph));
  OK(rt.gxuGraphDestroy(graph));
  OK(rt.gxuGraphExecDestroy(exec));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphDestroy(graph));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphInstantiate(&second, graph));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphLaunch(exec, stream));
  GIVES(gxuErrorInvalidHandle, rt.gxuGraphExecDestroy(exec));
}

ABI_CASE(destroying, "Destroying a stream that is capturing is not supported") {
  Stream stream;
  Capture capture(stream);
  GIVES(gxuErrorStreamCaptureUnsupported, rt.gxuStreamDestroy(stream));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
