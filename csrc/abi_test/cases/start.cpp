// VERSIONS, START, FORK and EXIT.
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

namespace gxu::abi_test {
namespace {

// Exit status of a child process that runs `body`, or -1 where a signal ended it.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The first call that does not give `expected`, counted from 1; 0 where all do.
int first_other(gxuError_t expected) {
  int number = 0;
  for (const NamedCall& call : every_call()) {
    ++number;
    if (call.call() != expected || rt.gxuPeekAtLastError() != expected || rt.gxuGetLastError() != expected) {
      return number;
    }
  }
  return 0;
}

const char* name_of_call(int number) { return every_call()[static_cast<size_t>(number) - 1].name; }

}  // namespace

BOOST_AUTO_TEST_SUITE(start)

ABI_CASE(version, "gxuGetVersion works before gxuInit and names this header's major version and at least its minor",
         OWN_PROCESS) {
  int version = -1;
  OK(rt.gxuGetVersion(&version));
  BOOST_TEST(version / 1000 == GXU_ABI_VERSION / 1000);
  BOOST_TEST(version >= GXU_ABI_VERSION);
}

ABI_CASE(not_initialized, "Before gxuInit every function gives gxuErrorNotInitialized", OWN_PROCESS) {
  for (const NamedCall& call : every_call()) {
    BOOST_TEST_CONTEXT(call.name) { GIVES(gxuErrorNotInitialized, call.call()); }
  }
}

ABI_CASE(errors_before_init, "The functions about errors work before gxuInit", OWN_PROCESS) {
  BOOST_TEST(rt.gxuPeekAtLastError() == gxuSuccess);
  BOOST_TEST(rt.gxuGetLastError() == gxuSuccess);
  BOOST_TEST(rt.gxuGetLastErrorMessage() != nullptr);
  BOOST_TEST(rt.gxuGetErrorName(gxuErrorOutOfMemory) == std::string("gxuErrorOutOfMemory"));
  BOOST_TEST(rt.gxuGetErrorString(gxuErrorOutOfMemory) != nullptr);
}

ABI_CASE(init_flags, "gxuInit refuses flags other than 0 with gxuErrorInvalidValue, and may be repeated after that",
         OWN_PROCESS) {
  GIVES(gxuErrorInvalidValue, rt.gxuInit(1));
  OK(rt.gxuInit(0));
}

ABI_CASE(init_again, "Calling gxuInit again does nothing", OWN_PROCESS) {
  start_library();
  Memory memory(64);
  upload(memory, Bytes(64, 7));
  OK(rt.gxuInit(0));
  BOOST_TEST(all_equal(download(memory, 64), 7));
}

ABI_CASE(init_from_threads,
         "gxuInit may be called from any thread, by several at once, and starts the process's library", OWN_PROCESS) {
  std::vector<std::unique_ptr<Background>> threads;
  for (int i = 0; i < 8; ++i) threads.push_back(std::make_unique<Background>([] { return rt.gxuInit(0); }));
  for (auto& thread : threads) {
    BOOST_CHECK_MESSAGE(thread->code() == gxuSuccess, "gxuInit gave " << thread->message());
  }
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 3, 64, nullptr));
  BOOST_TEST(all_equal(download(memory, 64), 3));
}

ABI_CASE(fork_after_init, "After gxuInit a forked child gets gxuErrorForked from every function", OWN_PROCESS) {
  start_library();
  const int other = in_child([] { return first_other(gxuErrorForked); });
  BOOST_REQUIRE_MESSAGE(other >= 0, "the child was ended by a signal");
  BOOST_CHECK_MESSAGE(other == 0, (other ? name_of_call(other) : "") << " does not give gxuErrorForked in the child");
  const int init = in_child([] { return rt.gxuInit(0) == gxuErrorForked ? 0 : 1; });
  BOOST_CHECK_MESSAGE(init == 0, "gxuInit does not give gxuErrorForked in the child");
}

ABI_CASE(errors_after_fork, "In such a child gxuGetVersion and the functions about errors still work", OWN_PROCESS) {
  start_library();
  const int wrong = in_child([] {
    int version = 0;
    if (rt.gxuGetVersion(&version) != gxuSuccess || version < GXU_ABI_VERSION) return 1;
    if (rt.gxuDeviceSynchronize() != gxuErrorForked) return 2;
    if (rt.gxuGetLastError() != gxuErrorForked || rt.gxuGetLastErrorMessage()[0] == '\0') return 3;
    return rt.gxuGetErrorName(gxuErrorForked) == std::string("gxuErrorForked") ? 0 : 4;
  });
  BOOST_TEST(wrong == 0);
}

ABI_CASE(fork_leaves_the_parent, "The parent of a forked child goes on as before", OWN_PROCESS) {
  start_library();
  Memory memory(4096);
  Stream stream;
  in_child([] { return 0; });
  OK(rt.gxuMemsetAsync(memory, 9, 4096, stream));
  BOOST_TEST(all_equal(download(memory, 4096, stream), 9));
}

ABI_CASE(fork_before_init, "A child forked before gxuInit may call it", OWN_PROCESS) {
  const int wrong = in_child([] {
    if (rt.gxuInit(0) != gxuSuccess) return 1;
    void* memory = nullptr;
    return rt.gxuMalloc(&memory, 64) == gxuSuccess && memory != nullptr ? 0 : 2;
  });
  BOOST_TEST(wrong == 0);
}

ABI_CASE(exit_with_work, "A process may exit with work in its queues: what nobody waited for is dropped", OWN_PROCESS) {
  const auto began = std::chrono::steady_clock::now();
  const int status = in_child([] {
    gxuStream_t stream;
    if (rt.gxuInit(0) != gxuSuccess || rt.gxuStreamCreate(&stream, gxuStreamNonBlocking, 0) != gxuSuccess) return 1;
    for (int i = 0; i < 300; ++i) {
      if (rt.gxuLaunchHostFunc(stream, [](void*) { std::this_thread::sleep_for(40ms); }, nullptr) != gxuSuccess)
        return 2;
    }
    std::exit(0);  // with exit handlers, as programs leave
  });
  BOOST_CHECK_MESSAGE(status == 0, "the process ended with status " << status);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  BOOST_CHECK_MESSAGE(took < 8s, "leaving took " << took.count() << " s, as if all 12 s of work had been done");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
