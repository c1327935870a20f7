// What a C++ wrapper that Inductor generates for a graph on gxu includes.
#pragma once

#include <torch/csrc/inductor/aoti_runtime/utils_gxu.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_gxu.h>
#include <torch/csrc/inductor/cpp_wrapper/common.h>
// torch 2.11 compiles kernels before the wrapper runs, and has neither.
#if __has_include(<torch/csrc/inductor/cpp_wrapper/lazy_triton_compile.h>)
#include <torch/csrc/inductor/aoti_include/kernel_compile_result.h>
#include <torch/csrc/inductor/cpp_wrapper/lazy_triton_compile.h>
#endif
