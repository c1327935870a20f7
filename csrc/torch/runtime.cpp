#include "runtime.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include <cstdlib>
#include <mutex>

namespace gxu {
namespace detail {
const RuntimeApi* loaded_runtime = nullptr;
}  // namespace detail

namespace {

std::string version_text(int version) { return c10::str(version / 1000, ".", version % 1000); }

// Directory of the libraries that come with the package: that of this one.
std::string library_directory() {
  Dl_info info;
  TORCH_CHECK(dladdr(reinterpret_cast<const void*>(&library_directory), &info) != 0 && info.dli_fname != nullptr,
              "cannot locate libgxu_torch.so on disk");
  const std::string file(info.dli_fname);
  const auto slash = file.find_last_of('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

void check_readable_file(const std::string& path, const std::string& requested) {
  struct stat status;
  TORCH_CHECK(stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode), "The GXU runtime library ", path,
              " does not exist (GXU_RUNTIME=", requested,
              "); build or install it, or set GXU_RUNTIME to 'host' or to the path of a runtime library.");
}

void check_version(void* library, const std::string& path) {
  auto get_version = reinterpret_cast<decltype(&::gxuGetVersion)>(dlsym(library, "gxuGetVersion"));
  TORCH_CHECK(get_version != nullptr, "The file ", path,
              " is not a GXU runtime library: it does not export gxuGetVersion.");
  int found = 0;
  const gxuError_t error = get_version(&found);
  TORCH_CHECK(error == gxuSuccess, "gxuGetVersion of the GXU runtime library ", path, " failed with error ",
              static_cast<int>(error), ".");
  const bool accepted = found / 1000 == GXU_ABI_VERSION / 1000 && found >= GXU_ABI_VERSION;
  TORCH_CHECK(accepted, "The GXU runtime library ", path, " has ABI version ", version_text(found),
              ", but this torch-gxu needs version ", version_text(GXU_ABI_VERSION), " or a newer ",
              GXU_ABI_VERSION / 1000, ".x; install a matching runtime library or set GXU_RUNTIME to another one.");
}

template <typename Function>
void resolve(void* library, const std::string& path, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  TORCH_CHECK(function != nullptr, "The GXU runtime library ", path, " does not export ", name, ", which ABI version ",
              version_text(GXU_ABI_VERSION), " requires.");
}

}  // namespace

std::string runtime_path() {
  const char* variable = std::getenv("GXU_RUNTIME");
  const std::string requested = variable == nullptr || *variable == '\0' ? "host" : variable;
  if (requested == "host" || requested == "cuda") {
    return library_directory() + "/libgxu_runtime_" + requested + ".so";
  }
  TORCH_CHECK(requested.find('/') != std::string::npos, "GXU_RUNTIME=", requested,
              " names no runtime: expected 'host', 'cuda' or the path of a runtime library.");
  return requested;
}

const RuntimeApi& detail::load_runtime() {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (loaded_runtime != nullptr) {
    return *loaded_runtime;
  }
  const std::string path = runtime_path();
  const char* variable = std::getenv("GXU_RUNTIME");
  check_readable_file(path, variable == nullptr ? "host" : variable);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(library != nullptr, "The GXU runtime library ", path, " cannot be loaded: ", dlerror());
  check_version(library, path);
  auto* api = new RuntimeApi;  // lives as long as the process: tensors may be freed after static destructors ran
#define GXU_RESOLVE(name) resolve(library, path, #name, api->name);
  GXU_RUNTIME_FUNCTIONS(GXU_RESOLVE)
#undef GXU_RESOLVE
#define GXU_FIND(name) api->name = reinterpret_cast<decltype(&::name)>(dlsym(library, #name));
  GXU_OPTIONAL_RUNTIME_FUNCTIONS(GXU_FIND)
#undef GXU_FIND
  loaded_runtime = api;
  return *api;
}

void throw_runtime_error(gxuError_t error, const char* function) {
  const RuntimeApi& api = runtime();
  const std::string text = api.gxuGetErrorString(error);
  const std::string detail = api.gxuGetLastErrorMessage();
  const std::string message = c10::str("GXU error: ", text, " (", api.gxuGetErrorName(error), " from ", function, ")",
                                       detail.empty() || detail == text ? "" : ": ", detail == text ? "" : detail);
  TORCH_CHECK_WITH(OutOfMemoryError, error != gxuErrorOutOfMemory, message);
  TORCH_CHECK(false, message);
}

}  // namespace gxu
