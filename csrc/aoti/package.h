// What a package that AOTInductor made for gxu needs of the process that loads it.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace gxu {

// Throws one sentence where the model's metadata, which lies beside it, says that it was compiled for another torch, a
// newer gxu, another runtime ABI, another device or another CPU. A model without metadata passes.
void check_package(const std::string& model_so_path, c10::DeviceIndex device);

}  // namespace gxu
