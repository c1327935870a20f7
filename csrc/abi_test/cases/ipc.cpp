// Memory that two processes share. The other process is forked before the library starts in either.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "support.h"

namespace gxu::abi_test {
namespace {

constexpr size_t kSize = 3 << 20;

// What the owner tells the opener, and back.
struct Word {
  gxuError_t code = gxuSuccess;
  gxuIpcMemHandle_t handle{};
};

// A child process that runs `body(socket)`, and this process's end of the socket.
class Other {
 public:
  explicit Other(const std::function<void(int)>& body) {
    int ends[2];
    BOOST_REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    process_ = fork();
    BOOST_REQUIRE(process_ >= 0);
    if (process_ == 0) {
      close(ends[0]);
      body(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    socket_ = ends[0];
  }
  ~Other() { end(); }
  void end() {
    if (socket_ < 0) return;
    close(socket_);
    waitpid(process_, nullptr, 0);
    socket_ = -1;
  }
  void tell(const Word& word) { BOOST_REQUIRE(send(socket_, &word, sizeof word, 0) == sizeof word); }
  Word hear() {
    Word word;
    BOOST_REQUIRE_MESSAGE(recv(socket_, &word, sizeof word, 0) == sizeof word, "the other process has ended");
    return word;
  }

 private:
  pid_t process_ = -1;
  int socket_ = -1;
};

bool hear(int socket, Word& word) { return recv(socket, &word, sizeof word, 0) == sizeof word; }
void tell(int socket, const Word& word) {
  if (send(socket, &word, sizeof word, 0) != sizeof word) _exit(1);
}

// Owns memory full of 11s, shares it, fills it with 22s when told, frees it when told again.
void own(int socket) {
  Word word;
  void* memory = nullptr;
  word.code = rt.gxuInit(0);
  if (word.code == gxuSuccess) word.code = rt.gxuMalloc(&memory, kSize);
  if (word.code == gxuSuccess) word.code = rt.gxuMemsetAsync(memory, 11, kSize, nullptr);
  if (word.code == gxuSuccess) word.code = rt.gxuIpcGetMemHandle(&word.handle, memory);
  tell(socket, word);
  if (word.code != gxuSuccess || !hear(socket, word)) return;
  Bytes bytes(kSize);
  word.code = rt.gxuMemcpyAsync(bytes.data(), memory, kSize, gxuMemcpyDeviceToHost, nullptr);
  if (word.code == gxuSuccess && !all_equal(bytes, 33)) word.code = gxuErrorUnknown;  // what the opener wrote
  if (word.code == gxuSuccess) word.code = rt.gxuMemsetAsync(memory, 22, kSize, nullptr);
  if (word.code == gxuSuccess) word.code = rt.gxuDeviceSynchronize();
  tell(socket, word);
  if (!hear(socket, word)) return;
  word.code = rt.gxuFree(memory);
  tell(socket, word);
  hear(socket, word);
}

Word handle_from(Other& owner) {
  const Word word = owner.hear();
  if (word.code == gxuErrorNotSupported) skip("the library says that it does not share memory between processes");
  BOOST_REQUIRE_MESSAGE(word.code == gxuSuccess, "the owner failed with " << rt.gxuGetErrorName(word.code));
  return word;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ipc)

ABI_CASE(shared_memory, "Both processes see what either writes to memory opened by its handle", OWN_PROCESS) {
  Other owner(own);
  start_library();
  Word word = handle_from(owner);
  void* memory = nullptr;
  OK(rt.gxuIpcOpenMemHandle(&memory, word.handle));
  BOOST_TEST(all_equal(download(memory, kSize), 11));
  OK(rt.gxuMemsetAsync(memory, 33, kSize, nullptr));
  OK(rt.gxuDeviceSynchronize());
  owner.tell({});
  BOOST_TEST(owner.hear().code == gxuSuccess);
  BOOST_TEST(all_equal(download(memory, kSize), 22));
  OK(rt.gxuIpcCloseMemHandle(memory));
}

ABI_CASE(not_charged, "Opened memory is device memory of the current device, and not charged to it", OWN_PROCESS) {
  Other owner(own);
  start_library();
  const Word word = handle_from(owner);
  size_t before = 0, after = 0, total;
  OK(rt.gxuMemGetInfo(&before, &total));
  void* memory = nullptr;
  OK(rt.gxuIpcOpenMemHandle(&memory, word.handle));
  OK(rt.gxuMemGetInfo(&after, &total));
  BOOST_TEST(after + kSize / 2 > before);
  gxuPointerAttributes attributes;
  OK(rt.gxuPointerGetAttributes(&attributes, static_cast<char*>(memory) + 100));
  BOOST_TEST(attributes.type == gxuMemoryTypeDevice);
  BOOST_TEST(attributes.device == 0);
  BOOST_TEST(attributes.base == memory);
  OK(rt.gxuIpcCloseMemHandle(memory));
}

ABI_CASE(close_waits, "gxuIpcCloseMemHandle blocks until the work on all streams of the device has finished",
         OWN_PROCESS) {
  Other owner(own);
  start_library();
  const Word word = handle_from(owner);
  void* memory = nullptr;
  OK(rt.gxuIpcOpenMemHandle(&memory, word.handle));
  Stream stream;
  Gate gate(stream);
  check_waits(gate, "gxuIpcCloseMemHandle", [=] { return rt.gxuIpcCloseMemHandle(memory); });
}

ABI_CASE(close_in_a_host_function, "gxuIpcCloseMemHandle in a host function gives gxuErrorNotPermitted", OWN_PROCESS) {
  Other owner(own);
  start_library();
  const Word word = handle_from(owner);
  struct Inside {
    void* memory = nullptr;
    gxuError_t code = gxuErrorUnknown;
  } inside;
  OK(rt.gxuIpcOpenMemHandle(&inside.memory, word.handle));
  const auto call = [](void* argument) {
    auto* inside = static_cast<Inside*>(argument);
    inside->code = rt.gxuIpcCloseMemHandle(inside->memory);
  };
  Stream stream;
  OK(rt.gxuLaunchHostFunc(stream, call, &inside));
  OK(rt.gxuStreamSynchronize(stream));
  BOOST_TEST(inside.code == gxuErrorNotPermitted);
  OK(rt.gxuIpcCloseMemHandle(inside.memory));
}

ABI_CASE(freed_by_its_owner, "A handle of memory that its owner has freed gives gxuErrorInvalidValue", OWN_PROCESS) {
  Other owner(own);
  start_library();
  Word word = handle_from(owner);
  void* memory = nullptr;
  OK(rt.gxuIpcOpenMemHandle(&memory, word.handle));
  OK(rt.gxuMemsetAsync(memory, 33, kSize, nullptr));
  OK(rt.gxuIpcCloseMemHandle(memory));
  owner.tell({});
  BOOST_TEST(owner.hear().code == gxuSuccess);
  owner.tell({});
  BOOST_TEST(owner.hear().code == gxuSuccess);
  GIVES(gxuErrorInvalidValue, rt.gxuIpcOpenMemHandle(&memory, word.handle));
}

ABI_CASE(owner_has_ended, "A handle whose owner has ended gives gxuErrorInvalidValue", OWN_PROCESS) {
  Other owner(own);
  start_library();
  const Word word = handle_from(owner);
  owner.end();
  void* memory = nullptr;
  GIVES(gxuErrorInvalidValue, rt.gxuIpcOpenMemHandle(&memory, word.handle));
}

ABI_CASE(handle_waits, "gxuIpcGetMemHandle blocks until the work on all streams of the device has finished") {
  gxuIpcMemHandle_t handle{};
  Memory memory(4096);
  if (rt.gxuIpcGetMemHandle(&handle, memory) == gxuErrorNotSupported) {
    skip("the library says that it does not share memory between processes");
  }
  Stream stream;
  Gate gate(stream);
  check_waits(gate, "gxuIpcGetMemHandle", [&] { return rt.gxuIpcGetMemHandle(&handle, memory); });
}

ABI_CASE(wrong_arguments, "Pointers that do not start an allocation, and damaged handles, give gxuErrorInvalidValue") {
  gxuIpcMemHandle_t handle{};
  Memory memory(4096);
  if (rt.gxuIpcGetMemHandle(&handle, memory) == gxuErrorNotSupported) {
    skip("the library says that it does not share memory between processes");
  }
  int local;
  void* opened;
  GIVES(gxuErrorInvalidValue, rt.gxuIpcGetMemHandle(&handle, memory.at(64)));
  GIVES(gxuErrorInvalidValue, rt.gxuIpcGetMemHandle(&handle, &local));
  GIVES(gxuErrorInvalidValue, rt.gxuIpcCloseMemHandle(&local));
  std::memset(handle.reserved, 0x5a, sizeof handle.reserved);
  GIVES(gxuErrorInvalidValue, rt.gxuIpcOpenMemHandle(&opened, handle));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace gxu::abi_test
