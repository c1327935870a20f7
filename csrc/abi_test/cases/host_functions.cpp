// gxuLaunchHostFunc.
#include <mutex>

#include "support.h"

namespace gxu::abi_test {
namespace {

// Runs `body` as a host function of a stream and waits for it.
void inside_a_host_function(const std::function<void()>& body) {
  Stream stream;
  OK(rt.gxuLaunchHostFunc(
      stream, [](void* function) { (*static_cast<const std::function<void()>*>(function))(); },
      const_cast<std::function<void()>*>(&body)));
  OK(rt.gxuStreamSynchronize(stream));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(host_functions)

ABI_CASE(called_once, "A host function is called once, with its argument, after the stream's earlier work") {
  struct Seen {
    Pinned pinned{64};
    int calls = 0, value = -1;
  } seen;
  Stream stream;
  OK(rt.gxuMemsetAsync(seen.pinned, 7, 64, stream));
  const auto look = [](void* argument) {
    auto* found = static_cast<Seen*>(argument);
    ++found->calls;
    found->value = found->pinned[63];
  };
  OK(rt.gxuLaunchHostFunc(stream, look, &seen));
  OK(rt.gxuStreamSynchronize(stream));
  std::this_thread::sleep_for(kMoment);
  BOOST_TEST(seen.calls == 1);
  BOOST_TEST(seen.value == 7);
}

ABI_CASE(later_work_waits, "Later work of the stream waits until the function returns") {
  Stream stream;
  Pinned pinned(1);
  Gate gate(stream);
  OK(rt.gxuMemsetAsync(pinned, 1, 1, stream));
  BOOST_TEST(eventually([&] { return gate.reached(); }));
  std::this_thread::sleep_for(kMoment);
  BOOST_CHECK_MESSAGE(pinned[0] == 0, "work overtook the host function before it");
  gate.open();
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(pinned[0] == 1);
}

ABI_CASE(in_order, "Host functions of a stream are called in order, one at a time") {
  struct Call {
    std::vector<int>* calls;
    int number;
  };
  std::vector<int> calls;
  std::vector<Call> arguments;
  for (int i = 0; i < 300; ++i) arguments.push_back({&calls, i});
  Stream stream;
  for (Call& call : arguments) {
    OK(rt.gxuLaunchHostFunc(
        stream,
        [](void* argument) {
          const auto* call = static_cast<Call*>(argument);
          call->calls->push_back(call->number);
        },
        &call));
  }
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_REQUIRE(calls.size() == 300u);
  for (int i = 0; i < 300; ++i) BOOST_REQUIRE(calls[static_cast<size_t>(i)] == i);
}

ABI_CASE(null_function, "A NULL function gives gxuErrorInvalidValue") {
  Stream stream;
  GIVES(gxuErrorInvalidValue, rt.gxuLaunchHostFunc(stream, nullptr, nullptr));
}

ABI_CASE(not_permitted, "Inside, calls that enqueue, wait or free give gxuErrorNotPermitted") {
  Stream other;
  Event event;
  Memory memory(64);
  Pinned pinned(64);
  struct Answer {
    const char* call;
    gxuError_t code;
  };
  std::vector<Answer> answers;
  gxuIpcMemHandle_t ipc{};
  Graph graph;
  GraphExec exec;
  OK(rt.gxuStreamBeginCapture(other));
  OK(rt.gxuStreamEndCapture(other, &graph.handle));
  OK(rt.gxuGraphInstantiate(&exec.handle, graph));
  inside_a_host_function([&] {
#define TRY(...) answers.push_back({#__VA_ARGS__, __VA_ARGS__})
    TRY(rt.gxuMemcpyAsync(pinned, memory, 64, gxuMemcpyDeviceToHost, other));
    TRY(rt.gxuMemsetAsync(memory, 0, 64, other));
    TRY(rt.gxuStreamWaitEvent(other, event, 0));
    TRY(rt.gxuLaunchHostFunc(other, [](void*) {}, nullptr));
    TRY(rt.gxuEventRecord(event, other));
    TRY(rt.gxuStreamBeginCapture(other));
    TRY(rt.gxuGraphLaunch(exec, other));
    TRY(rt.gxuDeviceSynchronize());
    TRY(rt.gxuStreamSynchronize(other));
    TRY(rt.gxuEventSynchronize(event));
    TRY(rt.gxuStreamDestroy(other));
    TRY(rt.gxuFree(memory));
    TRY(rt.gxuFreeHost(pinned));
    TRY(rt.gxuIpcGetMemHandle(&ipc, memory));
#undef TRY
  });
  for (const Answer& answer : answers) {
    BOOST_CHECK_MESSAGE(
        answer.code == gxuErrorNotPermitted ||
            (answer.code == gxuErrorNotSupported && std::string(answer.call).find("Ipc") != std::string::npos),
        answer.call << " gave " << rt.gxuGetErrorName(answer.code));
  }
}

ABI_CASE(queries_are_permitted, "Inside, queries are allowed") {
  Stream other;
  Event first(gxuEventDefault), second(gxuEventDefault);
  OK(rt.gxuEventRecord(first, other));
  OK(rt.gxuEventRecord(second, other));
  OK(rt.gxuStreamSynchronize(other));
  Memory memory(64);
  std::vector<gxuError_t> codes;
  inside_a_host_function([&] {
    int number, greatest;
    float milliseconds;
    size_t free, total;
    gxuDeviceProperties properties{};
    properties.struct_size = sizeof properties;
    gxuPointerAttributes attributes;
    gxuStreamCaptureStatus status;
    codes = {rt.gxuStreamQuery(other),
             rt.gxuEventQuery(first),
             rt.gxuEventElapsedTime(&milliseconds, first, second),
             rt.gxuStreamIsCapturing(other, &status),
             rt.gxuStreamGetPriorityRange(&number, &greatest),
             rt.gxuGetDevice(&number),
             rt.gxuGetDeviceCount(&number),
             rt.gxuGetDeviceProperties(&properties, 0),
             rt.gxuMemGetInfo(&free, &total),
             rt.gxuPointerGetAttributes(&attributes, memory)};
  });
  for (size_t i = 0; i < codes.size(); ++i) {
    BOOST_CHECK_MESSAGE(codes[i] == gxuSuccess, "query " << i << " gave " << rt.gxuGetErrorName(codes[i]));
  }
  BOOST_TEST(codes.size() == 10u);
}

ABI_CASE(after_a_refusal, "A call that was refused inside a host function has changed nothing") {
  Stream other;
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 5, 64, nullptr));
  OK(rt.gxuDeviceSynchronize());
  inside_a_host_function([&] {
    rt.gxuMemsetAsync(memory, 6, 64, other);
    rt.gxuFree(memory);
  });
  OK(rt.gxuStreamSynchronize(other));
  BOOST_TEST(all_equal(download(memory, 64), 5));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
