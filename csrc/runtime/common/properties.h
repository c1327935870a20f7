// How an engine hands out gxuDeviceProperties.
#pragma once

#include "../gxu_runtime.h"

namespace gxu::engine {

// Copies `known` as far as the caller's struct_size reaches: a caller built against a newer header has a longer struct,
// and gets the rest zeroed. Throws gxuErrorInvalidValue for a shorter one.
void copy_properties(gxuDeviceProperties* properties, const gxuDeviceProperties& known);

}  // namespace gxu::engine
