#include "host_function.h"

#include "error.h"

namespace gxu::engine {
namespace {

thread_local bool in_host_function = false;

}  // namespace

void call_host_function(gxuHostFn_t function, void* user_data) {
  in_host_function = true;
  function(user_data);
  in_host_function = false;
}

void forbid_in_host_function(const char* function) {
  if (in_host_function) [[unlikely]] {
    fail(gxuErrorNotPermitted, "%s was called from a host function, which must not enqueue work or wait for it",
         function);
  }
}

}  // namespace gxu::engine
