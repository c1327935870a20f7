// Modules: kernel images that a client has loaded.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "../common/api.h"
#include "../common/handle_table.h"
#include "../common/host_function.h"
#include "capture.h"
#include "device.h"
#include "function.h"
#include "image.h"

namespace gxu::cuda {
namespace {

struct Module {
  std::shared_ptr<Image> image;
};

using ModuleTable = HandleTable<gxuModule_t, Module, HandleKind::kModule>;

ModuleTable& module_handles() {
  static auto* table = new ModuleTable;
  return *table;
}

std::string read_file(const char* file_name) {
  std::ifstream file(file_name, std::ios::binary);
  std::string bytes;
  if (file) bytes.assign(std::istreambuf_iterator<char>(file), {});
  if (!file || file.bad()) {
    fail(gxuErrorFileNotFound, "cannot open the kernel image %s: %s", file_name, std::strerror(errno));
  }
  return bytes;
}

gxuModule_t load(std::string bytes, std::string name) {
  release_resources_of_ended_graphs();
  Device& device = current_device();
  const ContextScope scope(device);
  auto image = std::make_shared<Image>(std::move(bytes), std::move(name));
  image->module(device);
  auto owned = std::make_unique<Module>(Module{std::move(image)});
  const gxuModule_t handle = module_handles().insert(owned.get());
  owned.release();
  return handle;
}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuModuleLoad(gxuModule_t* module, const char* file_name) {
  return api([&] {
    require_argument(module, "module");
    require_argument(file_name, "file_name");
    *module = load(read_file(file_name), file_name);
  });
}

gxuError_t gxuModuleLoadData(gxuModule_t* module, const void* image, size_t size) {
  return api([&] {
    require_argument(module, "module");
    require_argument(image, "image");
    *module = load(std::string(static_cast<const char*>(image), size), "the image in memory");
  });
}

gxuError_t gxuModuleUnload(gxuModule_t module) {
  return api([&] {
    forbid_in_host_function("gxuModuleUnload");
    module_handles().get(module);
    drain_all_devices();
    const std::unique_ptr<Module> owned(module_handles().take(module));
    owned->image->invalidate_handles();
    release_resources_of_ended_graphs();
  });
}

gxuError_t gxuModuleGetFunction(gxuFunction_t* function, gxuModule_t module, const char* name) {
  return api([&] {
    require_argument(function, "function");
    require_argument(name, "name");
    Image& image = *module_handles().get(module).image;
    Device& device = current_device();
    const ContextScope scope(device);
    *function = image.find(name, device).handle;
  });
}
