#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Utils.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstring>
#include <mutex>

#include "device.h"
#include "device_name.h"

namespace gxu {
namespace {

constexpr int64_t kSeedBytes = sizeof(uint64_t);
constexpr int64_t kStateBytes = 2 * sizeof(uint64_t);

void check_offset(uint64_t offset) {
  TORCH_CHECK(offset % kPhiloxBlockWords == 0,
              "offset must be a multiple of 4, the numbers of a Philox block, but got ", offset);
}

}  // namespace

PhiloxKey GeneratorState::reserve(uint64_t words) {
  const PhiloxKey key{seed, offset / kPhiloxBlockWords};
  offset += whole_blocks(words);
  return key;
}

GeneratorImpl::GeneratorImpl(c10::DeviceIndex device, c10::intrusive_ptr<GeneratorState> state)
    : c10::GeneratorImpl(c10::Device(kGxu, device), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
      state_(std::move(state)) {}

void GeneratorImpl::set_current_seed(uint64_t seed) {
  state_->seed = seed;
  state_->offset = 0;
}

void GeneratorImpl::set_offset(uint64_t offset) {
  check_offset(offset);
  state_->offset = offset;
}

uint64_t GeneratorImpl::get_offset() const { return state_->offset; }

uint64_t GeneratorImpl::current_seed() const { return state_->seed; }

uint64_t GeneratorImpl::seed() {
  const uint64_t random = c10::detail::getNonDeterministicRandom();
  set_current_seed(random);
  return random;
}

void GeneratorImpl::set_state(const c10::TensorImpl& new_state) {
  at::detail::check_rng_state(new_state);
  const int64_t bytes = new_state.numel();
  TORCH_CHECK(bytes == kStateBytes || bytes == kSeedBytes, "RNG state is wrong size: a generator of ", device_name(),
              " has ", kStateBytes, " bytes (seed and offset), but got ", bytes);
  const auto* data = new_state.data_dtype_initialized<uint8_t>();
  uint64_t seed = 0;
  uint64_t offset = 0;
  std::memcpy(&seed, data, sizeof(seed));
  if (bytes == kStateBytes) {
    std::memcpy(&offset, data + kSeedBytes, sizeof(offset));
  }
  check_offset(offset);
  state_->seed = seed;
  state_->offset = offset;
}

c10::intrusive_ptr<c10::TensorImpl> GeneratorImpl::get_state() const {
  const at::Tensor state = at::empty({kStateBytes}, at::TensorOptions(at::kCPU).dtype(at::kByte));
  auto* data = state.data_ptr<uint8_t>();
  std::memcpy(data, &state_->seed, sizeof(state_->seed));
  std::memcpy(data + kSeedBytes, &state_->offset, sizeof(state_->offset));
  return state.getIntrusivePtr();
}

void GeneratorImpl::graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& new_state) {
  const auto other = c10::dynamic_intrusive_pointer_cast<GeneratorImpl>(new_state);
  TORCH_CHECK(other, "graphsafe_set_state of a generator of ", device_name(),
              " takes the state of another one of that device.");
  state_ = other->state_;
}

c10::intrusive_ptr<c10::GeneratorImpl> GeneratorImpl::graphsafe_get_state() const {
  return c10::make_intrusive<GeneratorImpl>(device().index(), state_);
}

GeneratorImpl* GeneratorImpl::clone_impl() const {
  return new GeneratorImpl(device().index(), c10::make_intrusive<GeneratorState>(state_->seed, state_->offset));
}

at::Generator make_generator(c10::DeviceIndex device) {
  return at::make_generator<GeneratorImpl>(device < 0 ? current_device() : device,
                                           c10::make_intrusive<GeneratorState>(c10::default_rng_seed_val, 0));
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

GeneratorImpl& generator_or_default(const std::optional<at::Generator>& generator, c10::DeviceIndex device) {
  if (!generator || !generator->defined()) {
    return *static_cast<GeneratorImpl*>(default_generator(device).unsafeGetGeneratorImpl());
  }
  TORCH_CHECK(generator->device().type() == kGxu, "Expected a '", device_name(),
              "' device type for generator but found '", generator->device().type(), "'");
  return *static_cast<GeneratorImpl*>(generator->unsafeGetGeneratorImpl());
}

PhiloxKey reserve_words(GeneratorImpl& generator, uint64_t words) {
  std::lock_guard<std::mutex> lock(generator.mutex_);
  return generator.state()->reserve(words);
}

at::Generator delegate_generator(const at::Generator& generator) {
  GeneratorImpl& source = generator_or_default(generator, generator.device().index());
  return delegate_generator(reserve_words(source, kPhiloxGroupWords));
}

at::Generator delegate_generator(PhiloxKey key) {
  std::array<uint32_t, kPhiloxGroupWords> words;
  philox_words(key, words.data(), 1);
  return at::detail::createCPUGenerator(words[0] | static_cast<uint64_t>(words[1]) << 32);
}

}  // namespace gxu
