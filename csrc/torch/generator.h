// Random number generators: a seed and an offset into the Philox sequence of that seed.
#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/util/intrusive_ptr.h>

#include "philox.h"

namespace gxu {

constexpr uint64_t kPhiloxBlockWords = 4;

// `words` rounded up to whole blocks.
constexpr uint64_t whole_blocks(uint64_t words) {
  return (words + kPhiloxBlockWords - 1) / kPhiloxBlockWords * kPhiloxBlockWords;
}

// The part of a generator that graphsafe_get_state shares.
struct GeneratorState final : c10::intrusive_ptr_target {
  GeneratorState(uint64_t seed, uint64_t offset) : seed(seed), offset(offset) {}

  // The key of the next `words` words, after which the state goes on. The caller holds the generator's mutex.
  PhiloxKey reserve(uint64_t words);

  uint64_t seed;
  uint64_t offset;  // in words; a multiple of those of a block
};

// torch.Generator("gxu"). Its state is 16 bytes: the seed and the offset.
class GeneratorImpl final : public c10::GeneratorImpl {
 public:
  GeneratorImpl(c10::DeviceIndex device, c10::intrusive_ptr<GeneratorState> state);

  static constexpr c10::DeviceType device_type() { return c10::DeviceType::PrivateUse1; }

  void set_current_seed(uint64_t seed) override;
  void set_offset(uint64_t offset) override;
  uint64_t get_offset() const override;
  uint64_t current_seed() const override;
  uint64_t seed() override;
  void set_state(const c10::TensorImpl& new_state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;
  void graphsafe_set_state(const c10::intrusive_ptr<c10::GeneratorImpl>& new_state) override;
  c10::intrusive_ptr<c10::GeneratorImpl> graphsafe_get_state() const override;

  const c10::intrusive_ptr<GeneratorState>& state() const { return state_; }

 private:
  GeneratorImpl* clone_impl() const override;

  c10::intrusive_ptr<GeneratorState> state_;
};

// The generator that operators use where none is given; one per device, seeded with PyTorch's default seed.
const at::Generator& default_generator(c10::DeviceIndex device);
at::Generator make_generator(c10::DeviceIndex device);

// The generator of an operator on `device`: the given one, else the device's. Throws for generators of other devices.
GeneratorImpl& generator_or_default(const std::optional<at::Generator>& generator, c10::DeviceIndex device);

// Locks the generator and takes the next `words` words of its sequence.
PhiloxKey reserve_words(GeneratorImpl& generator, uint64_t words);

// A generator of the delegate (the CPU) for one call of an operator that only the delegate has. It is seeded with the
// next number of `generator`, so that the state of the latter decides what the operator draws.
at::Generator delegate_generator(const at::Generator& generator);
at::Generator delegate_generator(PhiloxKey key);

}  // namespace gxu
