// libcuda.so.1, opened by gxuInit, and its errors.
#pragma once

#include "../common/error.h"
#include "driver_functions.h"

namespace gxu::cuda {
using namespace gxu::engine;

struct Driver {
#define GXU_DECLARE(name, parameters) CUresult(*name) parameters;
  GXU_CUDA_DRIVER_FUNCTIONS(GXU_DECLARE)
  GXU_CUDA_OPTIONAL_DRIVER_FUNCTIONS(GXU_DECLARE)
#undef GXU_DECLARE
};

// Opens the driver and finds its functions. Throws gxuErrorSharedObjectInitFailed with what is missing.
void open_driver();

extern Driver driver;  // valid once open_driver() has returned

// The driver's own name and text of an error: "CUDA_ERROR_NOT_FOUND (named symbol not found)".
std::string describe(CUresult result);

// Whether the error stays with the process: a kernel, or the hardware, has failed, and nothing runs after it.
bool is_sticky(CUresult result);

// Throws the error that gxu_runtime.h has for it, with the driver's name and text.
[[noreturn]] void fail_driver(CUresult result, const char* function);

inline void check(CUresult result, const char* function) {
  if (result != CUDA_SUCCESS) [[unlikely]] {
    fail_driver(result, function);
  }
}

// For the ends of objects, and for questions: they do not report failed kernels.
inline void check_unless_sticky(CUresult result, const char* function) {
  if (!is_sticky(result)) check(result, function);
}

// Calls a function of the driver; throws where it fails.
#define GXU_DRIVER(function, ...) ::gxu::cuda::check(::gxu::cuda::driver.function(__VA_ARGS__), #function)

}  // namespace gxu::cuda
