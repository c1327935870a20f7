// Kernel images: cubins, fat binaries and PTX, as bytes and as loaded on each device.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver.h"

namespace gxu::cuda {

class Device;
class Function;

// Throws gxuErrorInvalidImage for bytes that are none of the three, or that end too early: the driver is not told how
// many there are, and would read on.
void check_image(const std::string& bytes, const std::string& name);

class Image : public std::enable_shared_from_this<Image> {
 public:
  Image(std::string bytes, std::string name);
  ~Image();
  Image(const Image&) = delete;

  const std::string& name() const { return name_; }

  // The driver's module on the device, whose context is current; loaded at the first call.
  CUmodule module(Device& device);

  // The kernel `name`, found on the device, whose context is current; throws gxuErrorNotFound.
  Function& find(const char* name, Device& device);
  // From here on the handles of its kernels are not live; graphs still use them.
  void invalidate_handles();

 private:
  const std::string bytes_;
  const std::string name_;
  std::mutex mutex_;
  std::vector<CUmodule> modules_;  // by device
  std::map<std::string, std::unique_ptr<Function>, std::less<>> functions_;
};

}  // namespace gxu::cuda
