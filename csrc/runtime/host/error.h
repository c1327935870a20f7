// The errors of common/, under this engine's namespace, which takes all of gxu::engine with it.
#pragma once

#include "../common/error.h"

namespace gxu::host {
using namespace gxu::engine;
}  // namespace gxu::host
