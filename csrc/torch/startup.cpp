// What happens when libgxu_torch.so is loaded, after all of its other static initialisers: setup.py links this last.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/DeviceType.h>

#include "delegate.h"
#include "hooks.h"

namespace gxu {
namespace {

// A C++ program has no Python module that would name the device. Where another package has taken the place, nothing
// happens here, and `import gxu` says so.
const bool started = [] {
  if (!c10::is_privateuse1_backend_registered()) {
    c10::register_privateuse1_backend("gxu");
  }
  if (c10::get_privateuse1_backend() != "gxu" || at::isPrivateUse1HooksRegistered()) {
    return false;
  }
  register_hooks();
  register_delegated_operators();
  return true;
}();

}  // namespace
}  // namespace gxu
