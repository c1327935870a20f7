// THREADS.
#include "support.h"

namespace gxu::abi_test {
namespace {

// Runs `body(number)` on `count` threads at once. Returns what those that failed say, or "".
std::string on_threads(int count, const std::function<std::string(int)>& body) {
  std::vector<std::string> problems(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] { problems[static_cast<size_t>(i)] = body(i); });
  }
  for (std::thread& thread : threads) thread.join();
  std::string all;
  for (const std::string& problem : problems) all += problem.empty() ? "" : problem + "; ";
  return all;
}

// "" or which call failed.
std::string failed(const char* call, gxuError_t code) {
  return code == gxuSuccess ? "" : std::string(call) + " gave " + describe(code);
}
#define TRY(...)                                                                         \
  if (const std::string problem = failed(#__VA_ARGS__, __VA_ARGS__); !problem.empty()) { \
    return problem;                                                                      \
  }

std::string allocate_fill_and_read(int number) {
  constexpr size_t kSize = 20000;
  gxuStream_t stream;
  gxuEvent_t event;
  TRY(rt.gxuStreamCreate(&stream, gxuStreamNonBlocking, 0));
  TRY(rt.gxuEventCreate(&event, gxuEventDisableTiming));
  for (int round = 0; round < 25; ++round) {
    void *memory, *copy;
    TRY(rt.gxuMalloc(&memory, kSize));
    TRY(rt.gxuMalloc(&copy, kSize));
    const int value = (number * 31 + round) & 0xff;
    TRY(rt.gxuMemsetAsync(memory, value, kSize, stream));
    TRY(rt.gxuMemcpyAsync(copy, memory, kSize, gxuMemcpyDeviceToDevice, stream));
    TRY(rt.gxuEventRecord(event, stream));
    TRY(rt.gxuEventSynchronize(event));
    Bytes bytes(kSize);
    TRY(rt.gxuMemcpyAsync(bytes.data(), copy, kSize, gxuMemcpyDeviceToHost, stream));
    if (!all_equal(bytes, value)) return "thread " + std::to_string(number) + " read another's bytes";
    TRY(rt.gxuFree(memory));
    TRY(rt.gxuFree(copy));
  }
  TRY(rt.gxuEventDestroy(event));
  TRY(rt.gxuStreamDestroy(stream));
  return "";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(threads)

ABI_CASE(own_objects, "Threads that use streams, events and memory of their own do not disturb each other") {
  const std::string problems = on_threads(8, allocate_fill_and_read);
  BOOST_CHECK_MESSAGE(problems.empty(), problems);
}

ABI_CASE(one_stream, "Threads may enqueue on one stream; the work of each stays in its order") {
  struct Call {
    std::vector<int>* seen;
    int number;
  };
  Stream stream;
  std::vector<int> seen[6];
  std::vector<Call> calls[6];
  for (int thread = 0; thread < 6; ++thread) {
    for (int i = 0; i < 150; ++i) calls[thread].push_back({&seen[thread], i});
  }
  const std::string problems = on_threads(6, [&](int thread) -> std::string {
    for (Call& call : calls[thread]) {
      TRY(rt.gxuLaunchHostFunc(
          stream,
          [](void* argument) {
            const auto* call = static_cast<Call*>(argument);
            call->seen->push_back(call->number);
          },
          &call));
    }
    TRY(rt.gxuStreamSynchronize(stream));
    return seen[thread].size() == 150u ? "" : "gxuStreamSynchronize returned before the thread's own work was done";
  });
  BOOST_CHECK_MESSAGE(problems.empty(), problems);
  for (const std::vector<int>& numbers : seen) {
    BOOST_REQUIRE(numbers.size() == 150u);
    BOOST_TEST(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

ABI_CASE(waiting_together, "Several threads may wait for one stream, one event and the device") {
  Stream stream;
  Event event;
  Gate gate(stream);
  OK(rt.gxuEventRecord(event, stream));
  std::vector<std::unique_ptr<Background>> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(std::make_unique<Background>([&] { return rt.gxuStreamSynchronize(stream); }));
    waiting.push_back(std::make_unique<Background>([&] { return rt.gxuEventSynchronize(event); }));
    waiting.push_back(std::make_unique<Background>([] { return rt.gxuDeviceSynchronize(); }));
  }
  for (const auto& call : waiting) BOOST_TEST(!call->done_within(5ms));
  gate.open();
  for (const auto& call : waiting) {
    BOOST_REQUIRE(call->done_within(patience()));
    BOOST_TEST(call->code() == gxuSuccess);
  }
}

ABI_CASE(objects_of_the_process, "Handles and pointers that one thread made are good in another") {
  Stream stream;
  Event event;
  Memory memory(64);
  const std::string problems = on_threads(1, [&](int) -> std::string {
    TRY(rt.gxuMemsetAsync(memory, 4, 64, stream));
    TRY(rt.gxuEventRecord(event, stream));
    return "";
  });
  BOOST_CHECK_MESSAGE(problems.empty(), problems);
  OK(rt.gxuEventSynchronize(event));
  BOOST_TEST(all_equal(download(memory, 64), 4));
}

ABI_CASE(errors_of_threads, "Errors of threads that fail at the same time do not mix") {
  const std::string problems = on_threads(8, [](int number) -> std::string {
    for (int round = 0; round < 200; ++round) {
      const int device = 1000 + number;
      if (rt.gxuSetDevice(device) != gxuErrorInvalidDevice) return "gxuSetDevice succeeded";
      const std::string message = rt.gxuGetLastErrorMessage();
      if (message.find(std::to_string(device)) == std::string::npos) return "another thread's message: " + message;
      if (rt.gxuGetLastError() != gxuErrorInvalidDevice) return "another thread's error";
    }
    return "";
  });
  BOOST_CHECK_MESSAGE(problems.empty(), problems);
}

ABI_CASE(devices_of_threads, "Threads that use different devices do not disturb each other") {
  need_two_devices();
  const std::string problems = on_threads(6, [](int number) -> std::string {
    TRY(rt.gxuSetDevice(number % 2));
    const std::string problem = allocate_fill_and_read(number);
    if (!problem.empty()) return problem;
    int device = -1;
    TRY(rt.gxuGetDevice(&device));
    return device == number % 2 ? "" : "the thread's current device changed";
  });
  BOOST_CHECK_MESSAGE(problems.empty(), problems);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
