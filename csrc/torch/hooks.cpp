#include "hooks.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>

#include "copy.h"
#include "device.h"
#include "generator.h"
#include "pinned_allocator.h"

namespace gxu {
namespace {

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count_or_zero() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex device) const override {
    return is_initialized() && device >= 0 && device < device_count();
  }
  void init() const override { ensure_initialized(); }

  c10::DeviceIndex deviceCount() const override { return device_count_or_zero(); }
  void setCurrentDevice(c10::DeviceIndex device) const override { set_device(device); }
  c10::DeviceIndex getCurrentDevice() const override { return current_device(); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    check_device_index(device);
    return exchange_device(device);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchange_device(device); }

  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override { return default_generator(device); }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override { return make_generator(device); }

  c10::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }
  bool isPinnedPtr(const void* pointer) const override { return is_pinned(pointer); }

  c10::Device getDeviceFromPtr(void* pointer) const override {
    ensure_initialized();
    gxuPointerAttributes attributes;
    GXU_CALL(gxuPointerGetAttributes, &attributes, pointer);
    TORCH_CHECK(attributes.type == gxuMemoryTypeDevice,
                "The specified pointer resides on host memory and is not "
                "registered with any GXU device.");
    return {kGxu, static_cast<c10::DeviceIndex>(attributes.device)};
  }

  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t nbytes) const override {
    resize_storage(*storage.unsafeGetStorageImpl(), nbytes);
  }
};

}  // namespace

void register_hooks() { at::RegisterPrivateUse1HooksInterface(new Hooks); }

}  // namespace gxu
