// What happens when libgxu_torch.so is loaded, after all of its other static initialisers: setup.py links this last.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/DeviceType.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "../aoti/model_runner.h"
#include "delegate.h"
#include "graph.h"
#include "hooks.h"

namespace gxu {
namespace {

// A C++ program has no Python module that would name the device. Where another package has taken the place, nothing
// happens here, and `import gxu` says so.
//
// GXU_DEVICE_NAME names the device. With GXU_REGISTER=0 the device serves PrivateUse1 under whatever name a backend of
// its own gives it, as examples/minimal_backend does.
const bool started = [] {
  const char* setting = std::getenv("GXU_REGISTER");
  const char* name = std::getenv("GXU_DEVICE_NAME");
  const std::string wanted = name == nullptr || *name == '\0' ? "gxu" : name;
  const bool named_elsewhere = setting != nullptr && std::string_view(setting) == "0";
  if (!named_elsewhere && !c10::is_privateuse1_backend_registered()) {
    c10::register_privateuse1_backend(wanted);
  }
  const bool is_ours = named_elsewhere || c10::get_privateuse1_backend() == wanted;
  if (!is_ours || at::isPrivateUse1HooksRegistered()) {
    return false;
  }
  register_hooks();
  register_delegated_operators();
  register_graphs();
  torch::inductor::register_model_runner();
  return true;
}();

}  // namespace
}  // namespace gxu
