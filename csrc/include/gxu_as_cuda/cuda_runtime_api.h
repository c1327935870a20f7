// Included by PyTorch's AOTInductor runtime beside <cuda.h>, which has everything.
#pragma once

#include "cuda.h"
