#include "library.h"

#include <dlfcn.h>

#include <stdexcept>

namespace gxu::abi_test {

Library rt;

std::vector<std::string> open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  std::vector<std::string> missing;
#define X(name, required)                                               \
  rt.name = reinterpret_cast<decltype(&::name)>(dlsym(library, #name)); \
  if (required && rt.name == nullptr) missing.push_back(#name);
  GXU_FOR_EACH_FUNCTION(X)
#undef X
  return missing;
}

}  // namespace gxu::abi_test
