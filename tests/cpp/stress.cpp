// Eight threads on one engine: private and shared streams, events across streams, copies, graphs, allocations, module
// loads, all at once and with their results checked. Meant for the sanitizers (csrc/runtime/CMakeLists.txt); run as
//   gxu_runtime_stress KERNELS.so [ROUNDS]
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "gxu_runtime.h"

namespace {

constexpr int kThreads = 8;
constexpr int kElements = 33;
constexpr int kPrograms = 777;

#define CHECK(call)                                                                                                   \
  do {                                                                                                                \
    const gxuError_t error_ = (call);                                                                                 \
    if (error_ != gxuSuccess) {                                                                                       \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, gxuGetErrorName(error_), gxuGetLastErrorMessage()); \
      std::abort();                                                                                                   \
    }                                                                                                                 \
  } while (false)

#define EXPECT(condition)                                                           \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                 \
    }                                                                               \
  } while (false)

struct Shared {
  std::string image;
  int rounds;
  gxuModule_t module;
  gxuFunction_t count;
  gxuFunction_t assert_at;            // nullptr where the image has none, for engines that end with a failed kernel
  std::array<gxuFunction_t, 3> adds;  // alone where they may be, together, and in order; or nullptr
  int* total;                         // what they all add to, and how many of their calls were alone
  std::array<gxuStream_t, 2> streams;
  std::atomic<int> host_calls{0};
  std::atomic<int> failures_seen{0};
};

// The kernel, or nullptr where the image has none of that name.
gxuFunction_t find(gxuModule_t module, const char* name) {
  gxuFunction_t function = nullptr;
  const gxuError_t error = gxuModuleGetFunction(&function, module, name);
  if (error == gxuErrorNotFound) return nullptr;
  CHECK(error);
  return function;
}

void launch(gxuFunction_t function, unsigned int programs, gxuStream_t stream, void* memory) {
  void* params[] = {&memory};
  CHECK(gxuLaunchKernel(function, programs, 1, 1, 32, 1, 1, 0, stream, params));
}

void count_host_call(void* user_data) { static_cast<Shared*>(user_data)->host_calls.fetch_add(1); }

// Synchronises and accepts the failure that fail_now() made: any thread may be the one that hears of it.
void synchronize(Shared& shared, gxuStream_t stream) {
  const gxuError_t error = gxuStreamSynchronize(stream);
  if (error == gxuErrorLaunchFailed) {
    shared.failures_seen.fetch_add(1);
  } else {
    CHECK(error);
  }
}

// Work that hops between a private stream and a shared one, each step ordered after the last by an event.
void hop(Shared& shared, int thread) {
  gxuStream_t own;
  gxuEvent_t event;
  void* memory;
  CHECK(gxuStreamCreate(&own, thread % 3 == 0 ? gxuStreamDefault : gxuStreamNonBlocking, 0));
  CHECK(gxuEventCreate(&event, thread % 2 == 0 ? gxuEventDefault : gxuEventDisableTiming));
  CHECK(gxuMalloc(&memory, kElements * sizeof(int)));
  CHECK(gxuMemsetAsync(memory, 0, kElements * sizeof(int), own));
  const gxuStream_t common = shared.streams[static_cast<size_t>(thread % 2)];
  for (int i = 0; i < shared.rounds; ++i) {
    launch(shared.count, kElements, own, memory);
    CHECK(gxuEventRecord(event, own));
    CHECK(gxuStreamWaitEvent(common, event, 0));
    launch(shared.count, kElements, common, memory);
    CHECK(gxuEventRecord(event, common));
    CHECK(gxuStreamWaitEvent(own, event, 0));
    CHECK(gxuLaunchHostFunc(i % 2 == 0 ? own : common, count_host_call, &shared));
    if (i % 11 == thread) synchronize(shared, common);
    if (i % 13 == thread) (void)gxuEventQuery(event);
  }
  void* result;
  CHECK(gxuMallocHost(&result, kElements * sizeof(int)));
  CHECK(gxuMemcpyAsync(result, memory, kElements * sizeof(int), gxuMemcpyDeviceToHost, own));
  synchronize(shared, own);
  synchronize(shared, common);
  for (int i = 0; i < kElements; ++i) EXPECT(static_cast<int*>(result)[i] == 2 * shared.rounds);
  CHECK(gxuFreeHost(result));
  CHECK(gxuFree(memory));
  CHECK(gxuEventDestroy(event));
  CHECK(gxuStreamDestroy(own));
}

// A graph of two launches, replayed; its module is loaded and unloaded around it.
void replay(Shared& shared) {
  gxuModule_t module;
  gxuFunction_t count;
  gxuStream_t stream;
  gxuGraph_t graph;
  gxuGraphExec_t exec;
  void* memory;
  CHECK(gxuModuleLoad(&module, shared.image.c_str()));
  CHECK(gxuModuleGetFunction(&count, module, "count"));
  CHECK(gxuStreamCreate(&stream, gxuStreamNonBlocking, 0));
  CHECK(gxuMalloc(&memory, kElements * sizeof(int)));
  CHECK(gxuMemsetAsync(memory, 0, kElements * sizeof(int), stream));
  CHECK(gxuStreamBeginCapture(stream));
  launch(count, kElements, stream, memory);
  launch(count, kElements, stream, memory);
  CHECK(gxuStreamEndCapture(stream, &graph));
  CHECK(gxuGraphInstantiate(&exec, graph));
  CHECK(gxuGraphDestroy(graph));
  CHECK(gxuModuleUnload(module));
  for (int i = 0; i < shared.rounds; ++i) CHECK(gxuGraphLaunch(exec, stream));
  CHECK(gxuGraphExecDestroy(exec));
  synchronize(shared, stream);
  std::vector<int> result(kElements, -1);
  const gxuError_t error =
      gxuMemcpyAsync(result.data(), memory, kElements * sizeof(int), gxuMemcpyDeviceToHost, stream);
  EXPECT(error == gxuSuccess || error == gxuErrorLaunchFailed);
  if (error == gxuErrorLaunchFailed) shared.failures_seen.fetch_add(1);
  for (int value : result) EXPECT(value == 2 * shared.rounds);
  CHECK(gxuFree(memory));
  CHECK(gxuStreamDestroy(stream));
}

// Kernels with atomics on streams of their own, which meet at one address.
void add(Shared& shared) {
  if (shared.adds[0] == nullptr) return;
  gxuStream_t stream;
  CHECK(gxuStreamCreate(&stream, gxuStreamNonBlocking, 0));
  for (int i = 0; i < shared.rounds; ++i) {
    launch(shared.adds[static_cast<size_t>(i % 3)], kPrograms, stream, shared.total);
    if (i % 17 == 0) synchronize(shared, stream);
  }
  synchronize(shared, stream);
  CHECK(gxuStreamDestroy(stream));
}

// Allocations of changing sizes, launches that nobody waits for, and now and then a failing kernel.
void churn(Shared& shared, int thread) {
  for (int i = 0; i < shared.rounds; ++i) {
    void* memory;
    const size_t size = static_cast<size_t>(1 + (i * 977 + thread * 131) % 5000) * 1024;
    CHECK(gxuMalloc(&memory, size));
    gxuPointerAttributes attributes;
    CHECK(gxuPointerGetAttributes(&attributes, static_cast<char*>(memory) + size / 2));
    EXPECT(attributes.base == memory && attributes.size == size);
    CHECK(gxuMemsetAsync(memory, 0, kElements * sizeof(int), nullptr));
    if (i % 32 == 5 && shared.assert_at != nullptr) {
      int64_t at = 3;
      void* params[] = {&memory, &at};
      CHECK(gxuLaunchKernel(shared.assert_at, kElements, 1, 1, 32, 1, 1, 0, nullptr, params));
    } else {
      launch(shared.count, kElements, nullptr, memory);
    }
    CHECK(gxuFree(memory));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s KERNELS.so [ROUNDS]\n", argv[0]);
    return 2;
  }
  Shared shared;
  shared.image = argv[1];
  shared.rounds = argc > 2 ? std::atoi(argv[2]) : 100;
  CHECK(gxuInit(0));
  CHECK(gxuModuleLoad(&shared.module, argv[1]));
  CHECK(gxuModuleGetFunction(&shared.count, shared.module, "count"));
  shared.assert_at = find(shared.module, "assert_at");
  const char* adds[] = {"add_atomically", "add_together", "add_in_order"};
  for (size_t i = 0; i < 3; ++i) shared.adds[i] = find(shared.module, adds[i]);
  void* total;
  CHECK(gxuMallocHost(&total, 2 * sizeof(int)));
  shared.total = static_cast<int*>(total);
  shared.total[0] = shared.total[1] = 0;
  for (gxuStream_t& stream : shared.streams) CHECK(gxuStreamCreate(&stream, gxuStreamNonBlocking, 0));

  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&shared, thread] {
      hop(shared, thread);
      replay(shared);
      add(shared);
      churn(shared, thread);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(shared.host_calls.load() == kThreads * shared.rounds);

  EXPECT(shared.adds[0] == nullptr || shared.total[0] == kThreads * shared.rounds * kPrograms);
  EXPECT(shared.total[1] <= kThreads * shared.rounds);

  // The last failure may still wait for someone to hear of it; after that the device is well again.
  (void)gxuDeviceSynchronize();
  CHECK(gxuDeviceSynchronize());
  for (gxuStream_t stream : shared.streams) CHECK(gxuStreamDestroy(stream));
  CHECK(gxuFreeHost(total));
  CHECK(gxuModuleUnload(shared.module));
  size_t free_bytes, total_bytes;
  CHECK(gxuMemGetInfo(&free_bytes, &total_bytes));
  EXPECT(free_bytes > 0 && free_bytes <= total_bytes);
  std::printf("%d threads, %d rounds: ok\n", kThreads, shared.rounds);
  return 0;
}
