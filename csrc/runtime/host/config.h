// The environment variables that shape the engine's devices.
#pragma once

#include <cstdint>
#include <vector>

namespace gxu::host {

struct Config {
  std::vector<int> devices;  // the machine's number of each device that the process sees: those of GXU_DEVICE_COUNT,
                             // chosen and ordered by GXU_VISIBLE_DEVICES
  uint64_t memory_limit;     // bytes a device, GXU_MEMORY_LIMIT
};

inline constexpr int kMaxDevices = 64;

// Reads the environment; throws gxuErrorInvalidValue naming the variable, the value found and what is allowed.
Config read_config();

// Bytes of memory this process may use: the machine's, or its control group's limit where that is lower.
uint64_t usable_memory();

// Bytes the system could hand out now without swapping; UINT64_MAX where it does not say.
uint64_t available_memory();

}  // namespace gxu::host
