// Allocation: device memory, pinned memory, what a pointer is.
#include <cstring>

#include "support.h"

namespace gxu::abi_test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

gxuPointerAttributes attributes_of(const void* pointer) {
  gxuPointerAttributes attributes;
  std::memset(&attributes, 0xee, sizeof attributes);
  OK(rt.gxuPointerGetAttributes(&attributes, pointer));
  return attributes;
}

void check_unregistered(const void* pointer) {
  const gxuPointerAttributes found = attributes_of(pointer);
  BOOST_TEST(found.type == gxuMemoryTypeUnregistered);
  BOOST_TEST(found.device == -1);
  BOOST_TEST(found.base == nullptr);
  BOOST_TEST(found.size == 0u);
}

size_t free_memory() {
  size_t free = 0, total = 0;
  OK(rt.gxuMemGetInfo(&free, &total));
  return free;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(memory)

ABI_CASE(alignment, "gxuMalloc aligns to at least 64 bytes, and its allocations do not overlap") {
  std::vector<std::unique_ptr<Memory>> blocks;
  const size_t sizes[] = {1, 3, 64, 65, 1000, 4096, 65537, kMiB + 1, 3 * kMiB};
  for (const size_t size : sizes) {
    blocks.push_back(std::make_unique<Memory>(size));
    BOOST_TEST(reinterpret_cast<uintptr_t>(blocks.back()->handle) % 64 == 0u);
    OK(rt.gxuMemsetAsync(*blocks.back(), static_cast<int>(blocks.size()), size, nullptr));
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    BOOST_CHECK_MESSAGE(all_equal(download(*blocks[i], sizes[i]), static_cast<int>(i) + 1),
                        "another allocation's work reached one of " << sizes[i] << " bytes");
  }
}

ABI_CASE(empty, "gxuMalloc and gxuMallocHost of 0 bytes succeed and give NULL; freeing NULL succeeds") {
  void* pointer = &pointer;
  OK(rt.gxuMalloc(&pointer, 0));
  BOOST_TEST(pointer == nullptr);
  pointer = &pointer;
  OK(rt.gxuMallocHost(&pointer, 0));
  BOOST_TEST(pointer == nullptr);
  OK(rt.gxuFree(nullptr));
  OK(rt.gxuFreeHost(nullptr));
}

ABI_CASE(malloc_does_not_wait, "gxuMalloc and gxuMallocHost do not wait for queued work") {
  Stream stream;
  Gate gate(stream);
  void *pointer = nullptr, *pinned = nullptr;
  check_does_not_wait(gate, "gxuMalloc", [&] { return rt.gxuMalloc(&pointer, kMiB); });
  check_does_not_wait(gate, "gxuMallocHost", [&] { return rt.gxuMallocHost(&pinned, kMiB); });
  gate.open();
  OK(rt.gxuFree(pointer));
  OK(rt.gxuFreeHost(pinned));
}

ABI_CASE(out_of_memory,
         "More than the device has gives gxuErrorOutOfMemory; the message names the bytes asked for and the limit") {
  const uint64_t limit = session().properties.total_memory, asked = limit + kMiB;
  void* pointer = nullptr;
  GIVES(gxuErrorOutOfMemory, rt.gxuMalloc(&pointer, asked));
  rt.gxuMalloc(&pointer, asked);
  const std::string message = rt.gxuGetLastErrorMessage();
  BOOST_CHECK_MESSAGE(message.find(std::to_string(asked)) != std::string::npos,
                      "the message does not name the " << asked << " bytes: '" << message << "'");
  BOOST_CHECK_MESSAGE(message.find(std::to_string(limit)) != std::string::npos,
                      "the message does not name the limit, " << limit << " bytes: '" << message << "'");
  GIVES(gxuErrorOutOfMemory, rt.gxuMalloc(&pointer, SIZE_MAX));
  Memory memory(kMiB);  // and the device is as before
  OK(rt.gxuMemsetAsync(memory, 1, kMiB, nullptr));
  BOOST_TEST(all_equal(download(memory, kMiB), 1));
}

ABI_CASE(accounting, "What gxuFree gives back can be allocated again, and nothing is given out twice") {
  const size_t size = free_memory() / 10 * 6, total = session().properties.total_memory;
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> blocks;
    gxuError_t code = gxuSuccess;
    for (size_t given = 0; given <= total; given += size) {
      void* block = nullptr;
      code = rt.gxuMalloc(&block, size);
      if (code != gxuSuccess) break;
      blocks.push_back(block);
    }
    BOOST_CHECK_MESSAGE(code == gxuErrorOutOfMemory, "more than total_memory was given out");
    BOOST_CHECK_MESSAGE(!blocks.empty(), "round " << round << ": " << size << " bytes, which were free, are no more");
    for (void* block : blocks) OK(rt.gxuFree(block));
  }
}

ABI_CASE(memory_info, "gxuMemGetInfo gives total_memory, and what is left of it") {
  size_t free = 0, total = 0;
  OK(rt.gxuMemGetInfo(&free, &total));
  BOOST_TEST(total == session().properties.total_memory);
  BOOST_TEST(free <= total);
  BOOST_TEST(free > 0u);
  const size_t size = std::min<size_t>(16 * kMiB, free / 4);
  Memory memory(size);
  BOOST_TEST(free_memory() <= total - size);
}

ABI_CASE(memory_info_of_a_device, "gxuMemGetInfo is about the current device") {
  need_two_devices();
  const size_t size = std::min<size_t>(16 * kMiB, free_memory() / 4);
  const size_t first_before = free_memory();
  OnDevice second(1);
  Memory memory(size);
  size_t free = 0, total = 0;
  OK(rt.gxuMemGetInfo(&free, &total));
  BOOST_TEST(free <= total - size);
  OK(rt.gxuSetDevice(0));
  const size_t first_after = free_memory();
  BOOST_CHECK_MESSAGE(first_after + size / 2 > first_before, "memory of device 1 was charged to device 0");
}

ABI_CASE(free_waits, "gxuFree blocks until the work enqueued on all streams of the memory's device has finished") {
  Stream stream;
  void* pointer = nullptr;
  OK(rt.gxuMalloc(&pointer, kMiB));
  Gate gate(stream);
  OK(rt.gxuMemsetAsync(pointer, 1, kMiB, stream));
  check_waits(gate, "gxuFree", [&] { return rt.gxuFree(pointer); });
}

ABI_CASE(free_from_another_device, "gxuFree frees memory of a device that is not current") {
  need_two_devices();
  void* pointer = nullptr;
  {
    OnDevice second(1);
    OK(rt.gxuMalloc(&pointer, kMiB));
  }
  OK(rt.gxuFree(pointer));
  check_unregistered(pointer);
}

ABI_CASE(wrong_frees, "gxuFree finds pointers that are not the start of a live allocation", OWN_PROCESS OPTIONAL) {
  start_library();
  char local[64];
  void *pointer = nullptr, *pinned = nullptr;
  OK(rt.gxuMalloc(&pointer, 4096));
  OK(rt.gxuMallocHost(&pinned, 4096));
  GIVES(gxuErrorInvalidValue, rt.gxuFree(static_cast<char*>(pointer) + 64));
  GIVES(gxuErrorInvalidValue, rt.gxuFree(local));
  GIVES(gxuErrorInvalidValue, rt.gxuFree(pinned));
  GIVES(gxuErrorInvalidValue, rt.gxuFreeHost(pointer));
  OK(rt.gxuFree(pointer));
  GIVES(gxuErrorInvalidValue, rt.gxuFree(pointer));
  OK(rt.gxuFreeHost(pinned));
  GIVES(gxuErrorInvalidValue, rt.gxuFreeHost(pinned));
}

ABI_CASE(pinned, "gxuMallocHost gives aligned memory that the CPU reads and writes") {
  Pinned memory(kMiB + 1);
  BOOST_TEST(reinterpret_cast<uintptr_t>(memory.handle) % 64 == 0u);
  for (size_t i = 0; i <= kMiB; i += 4096) memory[i] = static_cast<unsigned char>(i >> 12);
  for (size_t i = 0; i <= kMiB; i += 4096) BOOST_REQUIRE(memory[i] == static_cast<unsigned char>(i >> 12));
}

ABI_CASE(pinned_out_of_memory, "More pinned memory than any machine has gives gxuErrorOutOfMemory") {
  void* pointer = nullptr;
  GIVES(gxuErrorOutOfMemory, rt.gxuMallocHost(&pointer, size_t{1} << 60));
  Pinned pinned(64);  // and the host is as before
  BOOST_TEST(pinned[63] == 0);
}

ABI_CASE(pinned_is_not_charged, "Pinned memory is not charged to a device's memory") {
  const size_t size = std::min<size_t>(32 * kMiB, free_memory() / 2), before = free_memory();
  void* pinned = nullptr;
  OK(rt.gxuMallocHost(&pinned, size));
  const size_t after = free_memory();
  OK(rt.gxuFreeHost(pinned));
  BOOST_CHECK_MESSAGE(after + size / 2 > before,
                      before - after << " bytes of the device went with " << size << " pinned");
}

ABI_CASE(free_host_waits, "gxuFreeHost blocks until the work enqueued on all devices has finished") {
  OnDevice last(session().device_count - 1);
  Stream stream;
  void* pinned = nullptr;
  OK(rt.gxuMallocHost(&pinned, 4096));
  Gate gate(stream);
  OK(rt.gxuMemsetAsync(pinned, 1, 4096, stream));
  check_waits(gate, "gxuFreeHost", [&] { return rt.gxuFreeHost(pinned); });
}

ABI_CASE(attributes, "gxuPointerGetAttributes knows allocations by any pointer into them") {
  const int device = session().device_count - 1;
  OnDevice last(device);
  Memory memory(5000);
  for (const size_t offset : {size_t{0}, size_t{1}, size_t{4999}}) {
    const gxuPointerAttributes found = attributes_of(memory.at(offset));
    BOOST_TEST(found.type == gxuMemoryTypeDevice);
    BOOST_TEST(found.device == device);
    BOOST_TEST(found.base == memory.handle);
    BOOST_TEST(found.size == 5000u);
  }
  Pinned pinned(777);
  const gxuPointerAttributes found = attributes_of(pinned.as<char>() + 700);
  BOOST_TEST(found.type == gxuMemoryTypeHost);
  BOOST_TEST(found.device == device);
  BOOST_TEST(found.base == pinned.handle);
  BOOST_TEST(found.size == 777u);
}

ABI_CASE(unregistered, "Pageable memory, NULL and freed memory are gxuMemoryTypeUnregistered, and not an error") {
  int local = 0;
  check_unregistered(&local);
  check_unregistered(nullptr);
  const Bytes pageable(4096);
  check_unregistered(pageable.data());
  void* pointer = nullptr;
  OK(rt.gxuMalloc(&pointer, 4096));
  OK(rt.gxuFree(pointer));
  check_unregistered(pointer);
  OK(rt.gxuMallocHost(&pointer, 4096));
  OK(rt.gxuFreeHost(pointer));
  check_unregistered(pointer);
}

ABI_CASE(attributes_do_not_block, "gxuPointerGetAttributes does not block while work is queued") {
  Stream stream;
  Memory memory(64);
  Gate gate(stream);
  check_does_not_wait(gate, "gxuPointerGetAttributes", [&] {
    gxuPointerAttributes attributes;
    return rt.gxuPointerGetAttributes(&attributes, memory);
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
