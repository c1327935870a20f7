// Devices and their properties.
#include <cstddef>
#include <cstring>

#include "support.h"

namespace gxu::abi_test {
namespace {

// sizeof(gxuDeviceProperties) in the first version of the header: clock_rate_khz was its last member.
constexpr size_t kFirstSize = (offsetof(gxuDeviceProperties, clock_rate_khz) + sizeof(int32_t) + 7) / 8 * 8;

gxuDeviceProperties properties_of(int device) {
  gxuDeviceProperties properties;
  std::memset(&properties, 0xee, sizeof properties);
  properties.struct_size = sizeof properties;
  OK(rt.gxuGetDeviceProperties(&properties, device));
  return properties;
}

template <size_t n>
bool is_text(const char (&text)[n]) {
  return std::memchr(text, '\0', n) != nullptr;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(devices)

ABI_CASE(count, "There is at least one device after gxuInit") {
  int count = 0;
  OK(rt.gxuGetDeviceCount(&count));
  BOOST_TEST(count >= 1);
}

ABI_CASE(current_device_at_first, "A thread's current device is 0 at first, whatever others have chosen") {
  OnDevice last(session().device_count - 1);
  int device = -1;
  gxuError_t code = gxuErrorUnknown;
  std::thread([&] { code = rt.gxuGetDevice(&device); }).join();
  OK(code);
  BOOST_TEST(device == 0);
}

ABI_CASE(set_device, "gxuSetDevice changes the calling thread's current device alone") {
  need_two_devices();
  OnDevice second(1);
  int here = -1, there = -1;
  std::thread([&] {
    rt.gxuSetDevice(0);
    rt.gxuGetDevice(&there);
  }).join();
  OK(rt.gxuGetDevice(&here));
  BOOST_TEST(here == 1);
  BOOST_TEST(there == 0);
}

ABI_CASE(wrong_devices, "A device number outside [0, count) gives gxuErrorInvalidDevice and changes nothing") {
  const int count = session().device_count;
  gxuDeviceProperties properties{};
  properties.struct_size = sizeof properties;
  int number;
  for (const int wrong : {-1, count, INT32_MAX}) {
    GIVES(gxuErrorInvalidDevice, rt.gxuSetDevice(wrong));
    GIVES(gxuErrorInvalidDevice, rt.gxuGetDeviceProperties(&properties, wrong));
    GIVES(gxuErrorInvalidDevice, rt.gxuDeviceCanAccessPeer(&number, wrong, 0));
    GIVES(gxuErrorInvalidDevice, rt.gxuDeviceCanAccessPeer(&number, 0, wrong));
  }
  OK(rt.gxuGetDevice(&number));
  BOOST_TEST(number == 0);
}

ABI_CASE(property_texts, "The texts of the properties are null-terminated; name and Triton target are not empty") {
  for (int device = 0; device < session().device_count; ++device) {
    const gxuDeviceProperties p = properties_of(device);
    BOOST_REQUIRE((is_text(p.name) && is_text(p.uuid) && is_text(p.triton_backend) && is_text(p.triton_arch) &&
                   is_text(p.delegate)));
    BOOST_TEST(std::strlen(p.name) > 0u);
    BOOST_TEST(std::strlen(p.triton_backend) > 0u);
    BOOST_TEST(std::strlen(p.triton_arch) > 0u);
    const std::string delegate = p.delegate;
    BOOST_CHECK_MESSAGE(delegate.empty() || delegate == "cpu" || delegate == "cuda",
                        "the delegate is '" << delegate << "': want cpu, cuda or nothing");
  }
}

ABI_CASE(uuid, "A device's uuid is 8-4-4-4-12 lower-case hexadecimal digits, and no other device's") {
  std::vector<std::string> seen;
  for (int device = 0; device < session().device_count; ++device) {
    const std::string uuid = properties_of(device).uuid;
    BOOST_REQUIRE_MESSAGE(uuid.size() == 36, "the uuid is '" << uuid << "'");
    for (size_t i = 0; i < uuid.size(); ++i) {
      const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
      const bool good = dash ? uuid[i] == '-' : std::strchr("0123456789abcdef", uuid[i]) != nullptr;
      BOOST_REQUIRE_MESSAGE(good, "the uuid is '" << uuid << "'");
    }
    BOOST_CHECK_MESSAGE(std::find(seen.begin(), seen.end(), uuid) == seen.end(), "two devices have uuid " << uuid);
    seen.push_back(uuid);
  }
}

ABI_CASE(property_values, "Sizes and limits of a device make sense") {
  const gxuDeviceProperties p = properties_of(0);
  BOOST_TEST(p.total_memory > 0u);
  BOOST_TEST(p.multi_processor_count >= 1);
  BOOST_TEST(p.warp_size >= 1);
  BOOST_TEST(p.max_threads_per_block >= p.warp_size);
  BOOST_TEST(p.max_threads_per_multi_processor >= p.warp_size);
  BOOST_TEST(p.regs_per_multiprocessor >= 0);
  BOOST_TEST(p.max_grid_size >= 0);
  BOOST_TEST(p.preferred_num_warps >= 0);
  BOOST_TEST(p.vector_bytes >= 0);
  BOOST_TEST((p.host_accessible == 0 || p.host_accessible == 1));
  BOOST_TEST((p.concurrent_kernels == 0 || p.concurrent_kernels == 1));
  BOOST_TEST(p.clock_rate_khz >= 0);
  BOOST_CHECK_MESSAGE(p.delegate != std::string("cpu") || p.host_accessible == 1,
                      "the delegate is cpu, but the CPU may not dereference device pointers");
}

ABI_CASE(host_accessible, "Where host_accessible is 1, the CPU may read and write device memory") {
  if (session().properties.host_accessible == 0) skip("the device says that the CPU does not reach its memory");
  Memory memory(4096);
  OK(rt.gxuMemsetAsync(memory, 5, 4096, nullptr));
  OK(rt.gxuDeviceSynchronize());
  BOOST_TEST(all_equal(Bytes(memory.at(0), memory.at(4096)), 5));
  std::memset(memory, 6, 4096);
  BOOST_TEST(all_equal(download(memory, 4096), 6));
}

ABI_CASE(property_stability, "The values of a device do not change") {
  const gxuDeviceProperties first = properties_of(0), second = properties_of(0);
  BOOST_TEST(first.uuid == std::string(second.uuid));
  BOOST_TEST(first.name == std::string(second.name));
  BOOST_TEST(first.total_memory == second.total_memory);
  BOOST_TEST(first.multi_processor_count == second.multi_processor_count);
  BOOST_TEST(first.clock_rate_khz == second.clock_rate_khz);
}

ABI_CASE(longer_properties, "Members that the caller knows and the library does not are zeroed") {
  union {
    gxuDeviceProperties properties;
    unsigned char bytes[sizeof(gxuDeviceProperties) + 1024];
  } longer;
  std::memset(longer.bytes, 0xee, sizeof longer.bytes);
  longer.properties.struct_size = sizeof longer.bytes;
  OK(rt.gxuGetDeviceProperties(&longer.properties, 0));
  BOOST_TEST(longer.properties.multi_processor_count >= 1);
  BOOST_CHECK_MESSAGE(all_equal(Bytes(longer.bytes + sizeof longer.bytes - 512, longer.bytes + sizeof longer.bytes), 0),
                      "the end of a longer struct is not zeroed");
}

ABI_CASE(shorter_properties,
         "The struct of the header's first version is filled and no more; a shorter one is refused") {
  std::vector<unsigned char> bytes(kFirstSize + 64, 0xee);
  auto* properties = reinterpret_cast<gxuDeviceProperties*>(bytes.data());
  properties->struct_size = kFirstSize;
  OK(rt.gxuGetDeviceProperties(properties, 0));
  BOOST_TEST(properties->warp_size >= 1);
  BOOST_CHECK_MESSAGE(all_equal(Bytes(bytes.begin() + kFirstSize, bytes.end()), 0xee),
                      "the library wrote past the struct");
  for (const uint32_t size : {0u, 4u, static_cast<uint32_t>(kFirstSize - 8)}) {
    properties->struct_size = size;
    GIVES(gxuErrorInvalidValue, rt.gxuGetDeviceProperties(properties, 0));
  }
}

ABI_CASE(own_peer, "gxuDeviceCanAccessPeer gives 0 for a device and itself") {
  int can_access = -1;
  OK(rt.gxuDeviceCanAccessPeer(&can_access, 0, 0));
  BOOST_TEST(can_access == 0);
}

ABI_CASE(peers, "gxuDeviceCanAccessPeer gives 1 where kernels of one device may use the other's memory, else 0") {
  need_two_devices();
  int can_access = -1;
  OK(rt.gxuDeviceCanAccessPeer(&can_access, 0, 1));
  BOOST_REQUIRE((can_access == 0 || can_access == 1));
  if (can_access == 0) skip("device 0 says that it does not reach device 1's memory");
  void* far = nullptr;
  {
    OnDevice second(1);
    OK(rt.gxuMalloc(&far, 64));
    OK(rt.gxuMemsetAsync(far, 0, 64, nullptr));
    OK(rt.gxuDeviceSynchronize());
  }
  Kernel kernel;
  OK(kernel.launch(far, 7));
  OK(rt.gxuDeviceSynchronize());
  BOOST_TEST(download(far, 1)[0] == 7);
  OK(rt.gxuFree(far));
}

ABI_CASE(synchronize, "gxuDeviceSynchronize blocks until the work on every stream of the device has finished") {
  Stream first, second;
  {
    Gate gate(first);
    check_waits(gate, "gxuDeviceSynchronize", [] { return rt.gxuDeviceSynchronize(); });
  }
  {
    Gate gate(second);
    check_waits(gate, "gxuDeviceSynchronize", [] { return rt.gxuDeviceSynchronize(); });
  }
  Gate gate(nullptr);
  check_waits(gate, "gxuDeviceSynchronize", [] { return rt.gxuDeviceSynchronize(); });
}

ABI_CASE(calls_that_do_not_block, "Questions about devices do not block while work is queued") {
  Stream stream;
  Gate gate(stream);
  check_does_not_wait(gate, "a question about devices", [] {
    int number, other;
    size_t free, total;
    gxuDeviceProperties properties{};
    properties.struct_size = sizeof properties;
    for (const gxuError_t code : {rt.gxuGetDeviceCount(&number), rt.gxuGetDevice(&number), rt.gxuSetDevice(0),
                                  rt.gxuGetDeviceProperties(&properties, 0), rt.gxuDeviceCanAccessPeer(&number, 0, 0),
                                  rt.gxuMemGetInfo(&free, &total), rt.gxuStreamGetPriorityRange(&number, &other)}) {
      if (code != gxuSuccess) return code;
    }
    return gxuSuccess;
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
