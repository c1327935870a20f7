// Brings kernel images into the process through the dynamic loader.
#pragma once

#include <cstddef>

namespace gxu::host {

// Both return a handle from dlopen that the caller closes. They throw gxuErrorFileNotFound or gxuErrorInvalidImage.
void* load_image_file(const char* file_name);
void* load_image_data(const void* image, size_t size);

}  // namespace gxu::host
