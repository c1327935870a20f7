#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>

#include <array>
#include <mutex>

#include "device.h"

namespace gxu {
namespace {

// Operators that draw random numbers run on the delegate, so the state is that of a CPU generator. The same seed gives
// the same numbers as on the CPU.
struct GeneratorImpl final : c10::GeneratorImpl {
  explicit GeneratorImpl(c10::DeviceIndex device, at::Generator delegate)
      : c10::GeneratorImpl(c10::Device(kGxu, device), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        delegate_(std::move(delegate)) {}

  void set_current_seed(uint64_t seed) override { delegate_.set_current_seed(seed); }
  uint64_t current_seed() const override { return delegate_.current_seed(); }
  uint64_t seed() override { return delegate_.seed(); }
  void set_offset(uint64_t /*offset*/) override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "A gxu generator is not counter-based: it has no offset to set.");
  }
  uint64_t get_offset() const override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "A gxu generator is not counter-based: it has no offset.");
  }
  void set_state(const c10::TensorImpl& state) override { delegate_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return delegate_.unsafeGetGeneratorImpl()->get_state();
  }

  const at::Generator& delegate() const { return delegate_; }

 private:
  GeneratorImpl* clone_impl() const override { return new GeneratorImpl(device().index(), delegate_.clone()); }

  at::Generator delegate_;
};

}  // namespace

at::Generator make_generator(c10::DeviceIndex device) {
  return at::make_generator<GeneratorImpl>(device < 0 ? current_device() : device, at::detail::createCPUGenerator());
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  static std::mutex mutex;
  static auto* generators = new std::array<at::Generator, kMaxDevices>;
  device = device < 0 ? current_device() : device;
  check_device_index(device);
  std::lock_guard<std::mutex> lock(mutex);
  at::Generator& generator = (*generators)[device];
  if (!generator.defined()) {
    generator = make_generator(device);
  }
  return generator;
}

const at::Generator& delegate_generator(const at::Generator& generator) {
  TORCH_CHECK(generator.device().type() == kGxu, "Expected a 'gxu' device type for generator but found '",
              generator.device().type(), "'");
  return static_cast<GeneratorImpl*>(generator.unsafeGetGeneratorImpl())->delegate();
}

}  // namespace gxu
