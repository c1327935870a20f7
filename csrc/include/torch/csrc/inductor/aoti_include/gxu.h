// What a model that AOTInductor generates for gxu includes, before any other header of PyTorch.
//
// PyTorch's AOTInductor runtime (model_base.h, model_container.h) is written for CUDA, with macros for two other
// devices. A model for gxu compiles its CUDA branches, with the functions that they call defined over gxu's
// (gxu_as_cuda/cuda.h), and with PrivateUse1 in the place of CUDA: there "cuda:1" means gxu:1.
#pragma once

#define USE_CUDA 1
#define aoti_torch_device_type_cuda aoti_torch_device_type_privateuse1
// Of an allocation in PyTorch's caching allocator: config.aot_inductor.weight_use_caching_allocator.
#define aoti_torch_cuda_caching_allocator_raw_alloc aoti_torch_gxu_caching_allocator_raw_alloc
#define aoti_torch_cuda_caching_allocator_raw_delete aoti_torch_gxu_caching_allocator_raw_delete
#include <gxu_as_cuda/cuda.h>
#include <torch/csrc/inductor/aoti_include/common.h>
#undef aoti_torch_device_type_cuda
#undef aoti_torch_cuda_caching_allocator_raw_alloc
#undef aoti_torch_cuda_caching_allocator_raw_delete
// USE_CUDA stays defined: model_container.h comes later.

#include <torch/csrc/inductor/aoti_runtime/utils_gxu.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_gxu.h>
#if __has_include(<torch/csrc/inductor/aoti_include/kernel_compile_result.h>)  // torch 2.11 has none
#include <torch/csrc/inductor/aoti_include/kernel_compile_result.h>
#endif
