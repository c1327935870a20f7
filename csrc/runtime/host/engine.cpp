// The engine's life: gxuInit, forks, exit.
#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#include <mutex>

#include "api.h"
#include "config.h"
#include "device.h"
#include "ticker.h"

namespace gxu::host {

std::atomic<EngineState> engine_state{EngineState::kUninitialized};

namespace {

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
  if (engine_state.compare_exchange_strong(expected, EngineState::kDeinitialized)) stop_background_work();
}

// The engine's threads and handlers run its code until the process ends: dlclose must not unmap it.
void stay_loaded() {
  Dl_info info;
  if (dladdr(&engine_state, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

void initialize() {
  static std::mutex* mutex = new std::mutex;
  std::lock_guard lock(*mutex);
  const EngineState state = engine_state.load(std::memory_order_acquire);
  if (state == EngineState::kReady) return;
  if (state != EngineState::kUninitialized) fail_not_ready(state);
  create_devices(read_config());
  static const bool hooks_installed = [] {
    return pthread_atfork(nullptr, nullptr, after_fork_in_child) == 0 && std::atexit(at_exit) == 0;
  }();
  if (!hooks_installed) fail(gxuErrorUnknown, "cannot register the handlers for fork and exit");
  stay_loaded();
  ticker().start();
  engine_state.store(EngineState::kReady, std::memory_order_release);
}

}  // namespace

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

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuGetVersion(int* version) {
  return translate_errors([&] {
    require_argument(version, "version");
    *version = GXU_ABI_VERSION;
  });
}

gxuError_t gxuInit(unsigned int flags) {
  return translate_errors([&] {
    if (flags != 0) fail(gxuErrorInvalidValue, "gxuInit: flags must be 0, not 0x%x", flags);
    initialize();
  });
}
