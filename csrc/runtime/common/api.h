// What every function of gxu_runtime.h does first and last: the engine's state on the way in, errors on the way out.
#pragma once

#include <atomic>
#include <new>
#include <type_traits>

#include "error.h"

namespace gxu::engine {

enum class EngineState : int {
  kUninitialized,
  kReady,
  kForked,         // this process was forked from one that had called gxuInit
  kDeinitialized,  // the process is exiting
};

extern std::atomic<EngineState> engine_state;

// Throws the error for calls that come before gxuInit, in a forked child, or during exit.
[[noreturn]] void fail_not_ready(EngineState state);

// Runs `body` (returning void or gxuError_t) and translates its exceptions. There is no catch (...): a host function
// that runs inside may be unwound by pthread_exit, which must not be swallowed.
template <typename Body>
gxuError_t translate_errors(Body&& body) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      body();
      return gxuSuccess;
    } else {
      return body();
    }
  } catch (const Error& error) {
    return set_last_error(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return set_last_error(gxuErrorOutOfMemory, "the host has no memory left for the engine's own bookkeeping");
  } catch (const std::exception& error) {
    return set_last_error(gxuErrorUnknown, error.what());
  }
}

// The body of a function that needs an initialised engine.
template <typename Body>
gxuError_t api(Body&& body) {
  return translate_errors([&] {
    const EngineState state = engine_state.load(std::memory_order_acquire);
    if (state != EngineState::kReady) [[unlikely]] {
      fail_not_ready(state);
    }
    return body();
  });
}

template <typename T>
void require_argument(const T* argument, const char* name) {
  if (argument == nullptr) fail(gxuErrorInvalidValue, "argument '%s' is NULL", name);
}

}  // namespace gxu::engine
