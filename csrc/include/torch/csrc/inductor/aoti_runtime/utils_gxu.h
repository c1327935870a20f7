// Guards and kernel launches for generated code, over the C ABI of shim_gxu.h alone.
#pragma once

#include <torch/csrc/inductor/aoti_runtime/utils.h>
#include <torch/csrc/inductor/aoti_torch/c/shim_gxu.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#define AOTI_TORCH_GXU_CHECK(call)                           \
  do {                                                       \
    if ((call) != AOTI_TORCH_SUCCESS) {                      \
      throw std::runtime_error(aoti_torch_gxu_last_error()); \
    }                                                        \
  } while (0)

namespace torch::aot_inductor {

// Makes a device current in its scope.
class AOTIGXUGuard {
 public:
  explicit AOTIGXUGuard(int32_t device_index) {
    GXUGuardHandle handle = nullptr;
    AOTI_TORCH_GXU_CHECK(aoti_torch_create_gxu_guard(device_index, &handle));
    guard_.reset(handle);
  }

  void set_index(int32_t device_index) {
    AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_guard_set_index(guard_.get(), device_index));
  }

 private:
  struct Delete {
    void operator()(GXUGuardHandle handle) const { aoti_torch_delete_gxu_guard(handle); }
  };
  std::unique_ptr<GXUGuardOpaque, Delete> guard_;
};

// Makes a stream current on its device, and that device current, in its scope.
class AOTIGXUStreamGuard {
 public:
  AOTIGXUStreamGuard(void* stream, int32_t device_index) {
    GXUStreamGuardHandle handle = nullptr;
    AOTI_TORCH_GXU_CHECK(aoti_torch_create_gxu_stream_guard(stream, device_index, &handle));
    guard_.reset(handle);
  }

 private:
  struct Delete {
    void operator()(GXUStreamGuardHandle handle) const { aoti_torch_delete_gxu_stream_guard(handle); }
  };
  std::unique_ptr<GXUStreamGuardOpaque, Delete> guard_;
};

inline gxuFunction_t get_gxu_kernel(gxuModule_t module, const std::string& name, uint32_t shared_memory_bytes,
                                    std::vector<gxuModule_t>* loaded_modules) {
  if (loaded_modules != nullptr) {
    loaded_modules->push_back(module);  // unloaded with the model
  }
  gxuFunction_t function = nullptr;
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_module_get_function(module, name.c_str(), shared_memory_bytes, &function));
  return function;
}

// The kernel `name` of an image on disk: `path`, or the file of that name in `directory`.
inline gxuFunction_t load_gxu_kernel(std::string path, const std::string& name, uint32_t shared_memory_bytes,
                                     const std::optional<std::string>& directory,
                                     std::vector<gxuModule_t>* loaded_modules) {
  if (directory) {
    path = (std::filesystem::path(*directory) / std::filesystem::path(path).filename()).string();
  }
  gxuModule_t module = nullptr;
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_module_load(path.c_str(), &module));
  return get_gxu_kernel(module, name, shared_memory_bytes, loaded_modules);
}

// The kernel `name` of an image that is linked into the model.
inline gxuFunction_t load_gxu_kernel(const void* image, size_t nbytes, const std::string& name,
                                     uint32_t shared_memory_bytes, std::vector<gxuModule_t>* loaded_modules) {
  gxuModule_t module = nullptr;
  AOTI_TORCH_GXU_CHECK(aoti_torch_gxu_module_load_data(image, nbytes, &module));
  return get_gxu_kernel(module, name, shared_memory_bytes, loaded_modules);
}

}  // namespace torch::aot_inductor
