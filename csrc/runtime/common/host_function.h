// Functions of the client that a stream calls: gxuLaunchHostFunc.
#pragma once

#include "../gxu_runtime.h"

namespace gxu::engine {

// Calls the function; until it returns, the calling thread may neither enqueue nor wait.
void call_host_function(gxuHostFn_t function, void* user_data);

bool in_host_function();

// Throws gxuErrorNotPermitted inside such a call: one that enqueues or waits could wait for itself there.
void forbid_in_host_function(const char* function);

}  // namespace gxu::engine
