// gxuMemcpyAsync and gxuMemsetAsync.
#include <cstring>

#include "support.h"

namespace gxu::abi_test {
namespace {

constexpr size_t kSizes[] = {1, 3, 64, 1000, 65537, (3u << 20) + 1};

}  // namespace

BOOST_AUTO_TEST_SUITE(copies)

ABI_CASE(directions, "gxuMemcpyAsync copies in every direction, any size, at any offset") {
  Stream stream;
  for (const size_t size : kSizes) {
    const Bytes source = random_bytes(size, static_cast<unsigned>(size));
    Memory first(size + 7), second(size + 7);
    Pinned pinned(size);
    Bytes target(size);
    OK(rt.gxuMemcpyAsync(first.at(7), source.data(), size, gxuMemcpyHostToDevice, stream));
    OK(rt.gxuMemcpyAsync(second.at(3), first.at(7), size, gxuMemcpyDeviceToDevice, stream));
    OK(rt.gxuMemcpyAsync(pinned, second.at(3), size, gxuMemcpyDeviceToHost, stream));
    OK(rt.gxuMemcpyAsync(target.data(), pinned, size, gxuMemcpyHostToHost, stream));
    BOOST_CHECK_MESSAGE(target == source, size << " bytes came back changed");
  }
}

ABI_CASE(default_kind, "gxuMemcpyDefault finds the direction from the pointers") {
  const Bytes source = random_bytes(5000);
  Memory memory(5000), other(5000);
  Pinned pinned(5000);
  Bytes target(5000);
  OK(rt.gxuMemcpyAsync(memory, source.data(), 5000, gxuMemcpyDefault, nullptr));
  OK(rt.gxuMemcpyAsync(other, memory, 5000, gxuMemcpyDefault, nullptr));
  OK(rt.gxuMemcpyAsync(pinned, other, 5000, gxuMemcpyDefault, nullptr));
  OK(rt.gxuMemcpyAsync(target.data(), pinned, 5000, gxuMemcpyDefault, nullptr));
  BOOST_TEST((target == source));
}

ABI_CASE(bounds, "Bytes beside the range that is copied or set stay as they were") {
  Memory memory(4096);
  OK(rt.gxuMemsetAsync(memory, 1, 4096, nullptr));
  OK(rt.gxuMemsetAsync(memory.at(101), 2, 1001, nullptr));
  upload(memory.at(2001), Bytes(333, 3));
  const Bytes found = download(memory, 4096);
  Bytes expected(4096, 1);
  std::fill_n(expected.begin() + 101, 1001, 2);
  std::fill_n(expected.begin() + 2001, 333, 3);
  BOOST_TEST((found == expected));
}

ABI_CASE(nothing, "A copy or fill of 0 bytes does nothing") {
  Memory memory(64);
  OK(rt.gxuMemsetAsync(memory, 7, 64, nullptr));
  Bytes other(64, 9);
  OK(rt.gxuMemcpyAsync(memory, other.data(), 0, gxuMemcpyHostToDevice, nullptr));
  OK(rt.gxuMemsetAsync(memory, 8, 0, nullptr));
  BOOST_TEST(all_equal(download(memory, 64), 7));
}

ABI_CASE(pinned_copies_are_enqueued,
         "Copies between device and pinned memory are enqueued, and read the source when they run") {
  Stream stream;
  Memory memory(4096);
  Pinned source(4096), target(4096);
  Gate gate(stream);
  check_does_not_wait(gate, "a copy from pinned memory",
                      [&] { return rt.gxuMemcpyAsync(memory, source, 4096, gxuMemcpyHostToDevice, stream); });
  check_does_not_wait(gate, "a copy to pinned memory",
                      [&] { return rt.gxuMemcpyAsync(target, memory, 4096, gxuMemcpyDeviceToHost, stream); });
  std::memset(source, 0x5c, 4096);  // before the copy can have run
  BOOST_TEST(target[0] == 0);
  gate.open();
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(all_equal(Bytes(target.as<unsigned char>(), target.as<unsigned char>() + 4096), 0x5c));
}

ABI_CASE(pageable_copies_wait,
         "A copy with pageable memory blocks until it, and all earlier work of the stream, is done") {
  Stream stream;
  Memory memory(4096);
  Bytes host(4096, 1);
  {
    Gate gate(stream);
    check_waits(gate, "a copy from pageable memory",
                [&] { return rt.gxuMemcpyAsync(memory, host.data(), 4096, gxuMemcpyHostToDevice, stream); });
  }
  Gate gate(stream);
  OK(rt.gxuMemsetAsync(memory, 2, 4096, stream));
  check_waits(gate, "a copy to pageable memory",
              [&] { return rt.gxuMemcpyAsync(host.data(), memory, 4096, gxuMemcpyDeviceToHost, stream); });
  BOOST_TEST(all_equal(host, 2));
}

ABI_CASE(pageable_copies_on_the_host, "So does a copy from pageable memory to pageable memory") {
  Stream stream;
  const Bytes source = random_bytes(4096);
  Bytes target(4096);
  Gate gate(stream);
  check_waits(gate, "a copy between pageable memory",
              [&] { return rt.gxuMemcpyAsync(target.data(), source.data(), 4096, gxuMemcpyHostToHost, stream); });
  BOOST_TEST((target == source));
}

ABI_CASE(pageable_source_is_free, "After a copy from pageable memory the source may be changed") {
  Stream stream;
  Memory memory(3 << 20);
  Bytes source(3 << 20, 4);
  upload(memory, source, stream);
  std::fill(source.begin(), source.end(), 5);
  BOOST_TEST(all_equal(download(memory, source.size(), stream), 4));
}

ABI_CASE(wrong_ranges, "A range that leaves its allocation gives gxuErrorInvalidValue, and nothing is copied") {
  Memory memory(4096), other(4096);
  Bytes host(8192, 1);
  OK(rt.gxuMemsetAsync(memory, 7, 4096, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, host.data(), 4097, gxuMemcpyHostToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(host.data(), memory.at(1), 4096, gxuMemcpyDeviceToHost, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory.at(4000), other, 97, gxuMemcpyDeviceToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemsetAsync(memory, 8, 4097, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemsetAsync(memory.at(4095), 8, 2, nullptr));
  BOOST_TEST(all_equal(download(memory, 4096), 7));
}

ABI_CASE(wrong_kinds, "A kind that says device for other memory, or is unknown, gives gxuErrorInvalidValue") {
  Memory memory(64);
  Pinned pinned(64);
  Bytes host(64);
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(pinned, host.data(), 32, gxuMemcpyHostToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, pinned, 32, gxuMemcpyDeviceToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(host.data(), host.data() + 32, 32, gxuMemcpyHostToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, host.data(), 32, gxuMemcpyDeviceToDevice, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(host.data(), host.data() + 32, 32, gxuMemcpyDeviceToHost, nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, host.data(), 32, static_cast<gxuMemcpyKind>(5), nullptr));
  GIVES(gxuErrorInvalidValue, rt.gxuMemcpyAsync(memory, host.data(), 32, static_cast<gxuMemcpyKind>(-1), nullptr));
}

ABI_CASE(overlap, "Ranges that overlap on one device are copied as memmove does", OPTIONAL) {
  Memory memory(10000);
  Bytes expected = random_bytes(10000);
  upload(memory, expected);
  OK(rt.gxuMemcpyAsync(memory.at(100), memory, 9000, gxuMemcpyDeviceToDevice, nullptr));
  std::memmove(expected.data() + 100, expected.data(), 9000);
  OK(rt.gxuMemcpyAsync(memory, memory.at(57), 9000, gxuMemcpyDeviceToDevice, nullptr));
  std::memmove(expected.data(), expected.data() + 57, 9000);
  BOOST_TEST((download(memory, 10000) == expected));
}

ABI_CASE(fill_value, "gxuMemsetAsync sets bytes to the low byte of its value") {
  Memory memory(1001);
  OK(rt.gxuMemsetAsync(memory, 0x7ab, 1001, nullptr));
  BOOST_TEST(all_equal(download(memory, 1001), 0xab));
  OK(rt.gxuMemsetAsync(memory, -1, 1001, nullptr));
  BOOST_TEST(all_equal(download(memory, 1001), 0xff));
}

ABI_CASE(fill_pinned, "gxuMemsetAsync sets pinned memory, too, and refuses pageable memory with gxuErrorInvalidValue") {
  Pinned pinned(1001);
  OK(rt.gxuMemsetAsync(pinned, 6, 1001, nullptr));
  OK(rt.gxuStreamSynchronize(nullptr));
  BOOST_TEST(all_equal(Bytes(pinned.as<unsigned char>(), pinned.as<unsigned char>() + 1001), 6));
  Bytes pageable(64);
  GIVES(gxuErrorInvalidValue, rt.gxuMemsetAsync(pageable.data(), 1, 64, nullptr));
}

ABI_CASE(fill_is_enqueued, "gxuMemsetAsync enqueues") {
  Stream stream;
  Memory memory(4096);
  Gate gate(stream);
  check_does_not_wait(gate, "gxuMemsetAsync", [&] { return rt.gxuMemsetAsync(memory, 1, 4096, stream); });
}

ABI_CASE(between_devices, "Copies go from one device to another, on a stream of either") {
  need_two_devices();
  const Bytes source = random_bytes(100001);
  Memory near(100001);
  Stream near_stream;
  upload(near, source, near_stream);
  OnDevice second(1);
  Memory far(100001), back(100001);
  Stream far_stream;
  OK(rt.gxuMemcpyAsync(far, near, 100001, gxuMemcpyDeviceToDevice, near_stream));
  OK(rt.gxuStreamSynchronize(near_stream));
  BOOST_TEST((download(far, 100001, far_stream) == source));
  OK(rt.gxuMemcpyAsync(back, near, 100001, gxuMemcpyDefault, far_stream));
  BOOST_TEST((download(back, 100001, far_stream) == source));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
