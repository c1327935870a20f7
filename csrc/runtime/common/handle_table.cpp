#include "handle_table.h"

#include <utility>

namespace gxu::engine {
namespace {

// What a handle of the kind stands for, and how one comes to be invalid.
std::pair<const char*, const char*> describe(HandleKind kind) {
  switch (kind) {
    case HandleKind::kStream:
      return {"stream", "it was destroyed, or does not come from gxuStreamCreate"};
    case HandleKind::kEvent:
      return {"event", "it was destroyed, or does not come from gxuEventCreate"};
    case HandleKind::kModule:
      return {"module", "it was unloaded, or does not come from gxuModuleLoad"};
    case HandleKind::kFunction:
      return {"kernel", "its module was unloaded, or it does not come from gxuModuleGetFunction"};
    case HandleKind::kGraph:
      return {"graph", "it was destroyed, or does not come from gxuStreamEndCapture"};
    case HandleKind::kGraphExec:
      return {"executable graph", "it was destroyed, or does not come from gxuGraphInstantiate"};
  }
  return {"handle", "it was made up"};
}

}  // namespace

void fail_not_live(HandleKind kind, const void* handle) {
  const auto [what, reason] = describe(kind);
  fail(gxuErrorInvalidHandle, "%p is not a live %s: %s", handle, what, reason);
}

}  // namespace gxu::engine
