// What every function of gxu_runtime.h does first and last: common/api.h in this engine.
#pragma once

#include "../common/api.h"
#include "error.h"
