#include "config.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>

#include "error.h"

namespace gxu::host {
namespace {

int read_device_count() {
  const char* text = std::getenv("GXU_DEVICE_COUNT");
  if (text == nullptr || *text == '\0') return 1;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, count);
  if (error != std::errc() || stop != end || count < 1 || count > kMaxDevices) {
    fail(gxuErrorInvalidValue, "GXU_DEVICE_COUNT is '%s': want a whole number from 1 to %d", text, kMaxDevices);
  }
  return count;
}

std::vector<int> all_devices(int count) {
  std::vector<int> devices(static_cast<size_t>(count));
  std::iota(devices.begin(), devices.end(), 0);
  return devices;
}

// The numbers in GXU_VISIBLE_DEVICES, "2,0"; all devices where it is not set. An empty text and -1 hide all devices, as
// they do in CUDA_VISIBLE_DEVICES.
std::vector<int> read_visible_devices(int count) {
  const char* text = std::getenv("GXU_VISIBLE_DEVICES");
  if (text == nullptr) return all_devices(count);
  if (*text == '\0' || std::strcmp(text, "-1") == 0) {
    fail(gxuErrorNoDevice, "GXU_VISIBLE_DEVICES is '%s', which hides all devices: unset it, or name some, as in '0,2'",
         text);
  }
  std::vector<int> devices;
  const char* end = text + std::strlen(text);
  for (const char* at = text;; ++at) {
    int number = 0;
    const auto [stop, error] = std::from_chars(at, end, number);
    const bool is_known = std::find(devices.begin(), devices.end(), number) != devices.end();
    if (error != std::errc() || number < 0 || number >= count || is_known || (stop != end && *stop != ',')) {
      fail(gxuErrorInvalidValue,
           "GXU_VISIBLE_DEVICES is '%s': want different numbers from 0 to %d, with commas between them", text,
           count - 1);
    }
    devices.push_back(number);
    if (stop == end) return devices;
    at = stop;
  }
}

// Bytes in "4096", "512K", "64M", "2G" or "1T"; 0 when the text is anything else.
uint64_t parse_bytes(const char* text) {
  uint64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  if (error != std::errc()) return 0;
  int shift = 0;
  if (stop != end) {
    constexpr const char* kSuffixes = "KMGT";
    const char upper = static_cast<char>(*stop & ~0x20);
    const char* suffix = std::strchr(kSuffixes, upper);
    if (stop + 1 != end || upper == '\0' || suffix == nullptr) return 0;
    shift = 10 * static_cast<int>(suffix - kSuffixes + 1);
  }
  if (number > (std::numeric_limits<uint64_t>::max() >> 1) >> shift) return 0;
  return number << shift;
}

uint64_t read_memory_limit(int device_count) {
  const char* text = std::getenv("GXU_MEMORY_LIMIT");
  if (text == nullptr || *text == '\0') return usable_memory() / static_cast<uint64_t>(device_count);
  const uint64_t bytes = parse_bytes(text);
  if (bytes == 0) {
    fail(gxuErrorInvalidValue,
         "GXU_MEMORY_LIMIT is '%s': want bytes per device as a whole number above 0, with an optional suffix "
         "K, M, G or T (powers of 1024)",
         text);
  }
  return bytes;
}

uint64_t read_number(const char* path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? number : std::numeric_limits<uint64_t>::max();  // "max" and no file mean: no limit
}

}  // namespace

Config read_config() {
  Config config{};
  const int count = read_device_count();
  config.devices = read_visible_devices(count);
  config.memory_limit = read_memory_limit(count);
  return config;
}

uint64_t usable_memory() {
  const uint64_t machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(
      {machine, read_number("/sys/fs/cgroup/memory.max"), read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
}

uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return std::numeric_limits<uint64_t>::max();
}

}  // namespace gxu::host
