// Modules: kernel images in the process, and the kernels in them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../gxu_runtime.h"
#include "gxu_host_kernel.h"

namespace gxu::host {

class Image;

struct Function {
  std::string name;
  gxuHostKernel entry;
  uint32_t flags;
  uint64_t scratch_bytes;
  uint64_t work_per_program;
  std::vector<uint8_t> param_sizes;
  Image* image;
  gxuFunction_t handle;
};

// A loaded shared object. Shared by its module and by the graphs that captured launches of its kernels.
class Image : public std::enable_shared_from_this<Image> {
 public:
  // Takes over a handle from dlopen. `name` is for messages.
  Image(void* library, std::string name) : library_(library), name_(std::move(name)) {}
  ~Image();
  Image(const Image&) = delete;

  // The kernel `name`, looked up once. Throws gxuErrorNotFound or, for a wrong description, gxuErrorInvalidImage.
  Function& find(const char* name);
  // Ends the life of all handles of this image's kernels.
  void invalidate_handles();

 private:
  void* const library_;
  const std::string name_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Function>, std::less<>> functions_;
};

// The live kernel behind a handle; throws gxuErrorInvalidHandle.
const Function& resolve_function(gxuFunction_t handle);

}  // namespace gxu::host
