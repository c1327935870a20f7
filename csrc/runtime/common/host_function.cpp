#include "host_function.h"

#include "error.h"

namespace gxu::engine {
namespace {

thread_local bool inside = false;

}  // namespace

void call_host_function(gxuHostFn_t function, void* user_data) {
  inside = true;
  function(user_data);
  inside = false;
}

bool in_host_function() { return inside; }

void forbid_in_host_function(const char* function) {
  if (inside) [[unlikely]] {
    fail(gxuErrorNotPermitted, "%s was called from a host function, which must not enqueue work or wait for it",
         function);
  }
}

}  // namespace gxu::engine
