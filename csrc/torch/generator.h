// Random number generators.
#pragma once

#include <ATen/core/Generator.h>

namespace gxu {

// The generator that operators use where none is given; one per device, seeded with PyTorch's default seed.
const at::Generator& default_generator(c10::DeviceIndex device);
at::Generator make_generator(c10::DeviceIndex device);
// The generator of the delegate (the CPU) that holds the state of a gxu generator.
const at::Generator& delegate_generator(const at::Generator& generator);

}  // namespace gxu
