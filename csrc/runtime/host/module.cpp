#include "module.h"

#include <dlfcn.h>

#include <cstring>

#include "api.h"
#include "device.h"
#include "handle_table.h"
#include "image_loader.h"
#include "stream.h"

namespace gxu::host {
namespace {

// Far above what a kernel needs per thread: a larger number is a damaged description.
constexpr uint64_t kMaxScratchBytes = uint64_t{4} << 30;
// CUDA allows 4 KiB of parameters before version 12.1 and 32,764 bytes after.
constexpr uint32_t kMaxParams = 4096;
constexpr uint32_t kKnownFlags = GXU_HOST_KERNEL_ORDERED | GXU_HOST_KERNEL_ATOMICS | GXU_HOST_KERNEL_ALONE_MASK;

struct Module {
  std::shared_ptr<Image> image;
};

using ModuleTable = HandleTable<gxuModule_t, Module, HandleKind::kModule>;
using FunctionTable = HandleTable<gxuFunction_t, Function, HandleKind::kFunction>;

ModuleTable& module_handles() {
  static auto* table = new ModuleTable;
  return *table;
}

FunctionTable& function_handles() {
  static auto* table = new FunctionTable;
  return *table;
}

void* find_symbol(void* library, const std::string& symbol, const std::string& image) {
  void* address = dlsym(library, symbol.c_str());
  if (address == nullptr) {
    fail(gxuErrorNotFound, "%s has no symbol '%s': a kernel 'k' needs the symbols 'k' and 'k_gxu_info'", image.c_str(),
         symbol.c_str());
  }
  return address;
}

void check_info(const gxuHostKernelInfo& info, const char* kernel) {
  if (info.version != GXU_HOST_KERNEL_VERSION) {
    fail(gxuErrorInvalidImage, "kernel '%s' has kernel format version %u: this engine wants %d; compile it again",
         kernel, info.version, GXU_HOST_KERNEL_VERSION);
  }
  if ((info.flags & ~kKnownFlags) != 0) {
    fail(gxuErrorInvalidImage, "kernel '%s' has unknown flags 0x%x", kernel, info.flags);
  }
  if (info.scratch_bytes > kMaxScratchBytes) {
    fail(gxuErrorInvalidImage, "kernel '%s' wants %llu bytes of scratch memory a thread: at most %llu are given",
         kernel, static_cast<unsigned long long>(info.scratch_bytes),
         static_cast<unsigned long long>(kMaxScratchBytes));
  }
  if (info.num_params > kMaxParams) {
    fail(gxuErrorInvalidImage, "kernel '%s' has %u parameters: at most %u are allowed", kernel, info.num_params,
         kMaxParams);
  }
  for (uint32_t i = 0; i < info.num_params; ++i) {
    const int size = info.param_sizes[i];
    if (size != 1 && size != 2 && size != 4 && size != 8) {
      fail(gxuErrorInvalidImage, "kernel '%s': parameter %u has %d bytes, want 1, 2, 4 or 8", kernel, i, size);
    }
  }
}

void publish_module(gxuModule_t* module, void* library, std::string name) {
  auto image = std::make_shared<Image>(library, std::move(name));
  auto owned = std::make_unique<Module>(Module{std::move(image)});
  *module = module_handles().insert(owned.get());
  owned.release();
}

}  // namespace

Image::~Image() { dlclose(library_); }

Function& Image::find(const char* name) {
  std::lock_guard lock(mutex_);
  auto known = functions_.find(std::string_view(name));
  if (known != functions_.end()) return *known->second;

  const std::string symbol(name);
  void* entry = find_symbol(library_, symbol, name_);
  const auto& info = *static_cast<const gxuHostKernelInfo*>(find_symbol(library_, symbol + "_gxu_info", name_));
  check_info(info, name);
  auto function = std::make_unique<Function>();
  function->name = symbol;
  function->entry = reinterpret_cast<gxuHostKernel>(entry);
  function->flags = info.flags;
  function->scratch_bytes = info.scratch_bytes;
  function->work_per_program = info.work_per_program;
  function->param_sizes.assign(info.param_sizes, info.param_sizes + info.num_params);
  function->image = this;
  Function& inserted = *functions_.emplace(symbol, std::move(function)).first->second;
  inserted.handle = function_handles().insert(&inserted);
  return inserted;
}

void Image::invalidate_handles() {
  std::lock_guard lock(mutex_);
  for (auto& [name, function] : functions_) function_handles().remove(function->handle);
}

const Function& resolve_function(gxuFunction_t handle) { return function_handles().get(handle); }

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuModuleLoad(gxuModule_t* module, const char* file_name) {
  return api([&] {
    require_argument(module, "module");
    require_argument(file_name, "file_name");
    publish_module(module, load_image_file(file_name), file_name);
  });
}

gxuError_t gxuModuleLoadData(gxuModule_t* module, const void* image, size_t size) {
  return api([&] {
    require_argument(module, "module");
    require_argument(image, "image");
    publish_module(module, load_image_data(image, size), "the image in memory");
  });
}

gxuError_t gxuModuleUnload(gxuModule_t module) {
  return api([&] {
    forbid_in_host_function("gxuModuleUnload");
    module_handles().get(module);
    drain_all_devices();
    const std::unique_ptr<Module> owned(module_handles().take(module));
    owned->image->invalidate_handles();
  });
}

gxuError_t gxuModuleGetFunction(gxuFunction_t* function, gxuModule_t module, const char* name) {
  return api([&] {
    require_argument(function, "function");
    require_argument(name, "name");
    *function = module_handles().get(module).image->find(name).handle;
  });
}

gxuError_t gxuFuncSetAttribute(gxuFunction_t function, gxuFunctionAttribute attribute, int value) {
  return api([&] {
    resolve_function(function);
    if (attribute != gxuFuncAttributeMaxDynamicSharedMemorySize) {
      fail(gxuErrorInvalidValue, "unknown function attribute %d", static_cast<int>(attribute));
    }
    const uint64_t limit = current_device().properties().shared_memory_per_block;
    if (value < 0 || static_cast<uint64_t>(value) > limit) {
      fail(gxuErrorInvalidValue, "%d bytes of shared memory: a program has 0 to %llu", value,
           static_cast<unsigned long long>(limit));
    }
    // Kernels of this engine bring their memory needs in their description: there is nothing to remember.
  });
}
