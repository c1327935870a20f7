#include "lifecycle.h"

#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#include <mutex>

#include "api.h"

namespace gxu::engine {

std::atomic<EngineState> engine_state{EngineState::kUninitialized};

namespace {

void (*stop_at_exit)() = nullptr;

// The engine's threads do not exist in a forked child, and a lock that one of them held would never open.
void after_fork_in_child() {
  if (engine_state.load(std::memory_order_relaxed) != EngineState::kUninitialized) {
    engine_state.store(EngineState::kForked, std::memory_order_relaxed);
  }
}

// Runs before the static destructors of libraries that were loaded before gxuInit: from here on the engine touches
// neither their code nor kernel images.
void at_exit() {
  EngineState expected = EngineState::kReady;
  if (engine_state.compare_exchange_strong(expected, EngineState::kDeinitialized)) stop_at_exit();
}

// The engine's threads and handlers run its code until the process ends: dlclose must not unmap it.
void stay_loaded() {
  Dl_info info;
  if (dladdr(&engine_state, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace

void start_engine(void (*start)(), void (*stop)()) {
  static std::mutex* mutex = new std::mutex;
  std::lock_guard lock(*mutex);
  const EngineState state = engine_state.load(std::memory_order_acquire);
  if (state == EngineState::kReady) return;
  if (state != EngineState::kUninitialized) fail_not_ready(state);
  stop_at_exit = stop;
  static const bool hooks_installed = [] {
    return pthread_atfork(nullptr, nullptr, after_fork_in_child) == 0 && std::atexit(at_exit) == 0;
  }();
  if (!hooks_installed) fail(gxuErrorUnknown, "cannot register the handlers for fork and exit");
  start();
  stay_loaded();
  engine_state.store(EngineState::kReady, std::memory_order_release);
}

void fail_not_ready(EngineState state) {
  switch (state) {
    case EngineState::kForked:
      fail(gxuErrorForked,
           "this process was forked after gxuInit, and a device cannot be used in such a child: start processes with "
           "the 'spawn' method, or fork before the device is first used");
    case EngineState::kDeinitialized:
      fail(gxuErrorDeinitialized, "the process is exiting: the device can no longer be used");
    default:
      fail(gxuErrorNotInitialized, "gxuInit has not been called in this process");
  }
}

}  // namespace gxu::engine

using namespace gxu::engine;

gxuError_t gxuGetVersion(int* version) {
  return translate_errors([&] {
    require_argument(version, "version");
    *version = GXU_ABI_VERSION;
  });
}
