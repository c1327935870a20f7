// What the cases are written with: the case itself, checks of calls, objects that end themselves, and gates.
//
// Checks belong to the thread that runs the case; other threads collect what the case then checks.
#pragma once

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "library.h"
#include "options.h"

// Decorators of a case. A process of its own: the library is new in it, gxuInit has not been called, and the case may
// leave it broken. Optional: the header makes the promise for the host engine alone.
#define OWN_PROCESS *boost::unit_test::label("own_process")
#define OPTIONAL *boost::unit_test::label("optional")

// A case: ABI_CASE(name, "the promise in a sentence", decorators...) { checks }.
#define ABI_CASE(name, promise, ...)                                                \
  static void name##_body();                                                        \
  BOOST_AUTO_TEST_CASE(name, *boost::unit_test::description(promise) __VA_ARGS__) { \
    ::gxu::abi_test::run_body(name##_body);                                         \
  }                                                                                 \
  static void name##_body()

// The call succeeds; otherwise the case ends.
#define OK(...)                                                                                 \
  do {                                                                                          \
    const gxuError_t code_of_call = (__VA_ARGS__);                                              \
    BOOST_REQUIRE_MESSAGE(code_of_call == gxuSuccess,                                           \
                          #__VA_ARGS__ << " gave " << ::gxu::abi_test::describe(code_of_call)); \
  } while (false)

// The call gives exactly this code; an error is then the thread's last error, with a message, until it is read.
#define GIVES(expected, ...)                                                                                        \
  do {                                                                                                              \
    ::gxu::abi_test::rt.gxuGetLastError();                                                                          \
    const gxuError_t code_of_call = (__VA_ARGS__);                                                                  \
    BOOST_CHECK_MESSAGE(code_of_call == (expected),                                                                 \
                        #__VA_ARGS__ << " gave " << ::gxu::abi_test::describe(code_of_call) << ", not " #expected); \
    if (code_of_call == (expected)) {                                                                               \
      const std::string problem_of_call = ::gxu::abi_test::last_error_problem(code_of_call);                        \
      BOOST_CHECK_MESSAGE(problem_of_call.empty(), "after " #__VA_ARGS__ ": " << problem_of_call);                  \
    }                                                                                                               \
  } while (false)

namespace gxu::abi_test {

using namespace std::chrono_literals;

// Something that must wait has waited if it has not happened after this long.
inline constexpr auto kMoment = 40ms;

struct Session {
  Options options;
  int device_count = 0;
  gxuDeviceProperties properties{};  // of device 0
};
Session& session();

// Something that should happen at once has not happened if it takes this long.
std::chrono::milliseconds patience();

// Ends the case: it could not be checked here, and why.
[[noreturn]] void skip(const std::string& reason);
void need_two_devices();

void run_body(void (*body)());

// Initialises the library and fills in session().
void start_library();

// "gxuErrorOutOfMemory (message)".
std::string describe(gxuError_t code);

// What is wrong with how the thread's last error reports `code`, or "".
std::string last_error_problem(gxuError_t code);

// True as soon as `condition` is; false if it is not within patience().
bool eventually(const std::function<bool()>& condition);

// A call on a thread of its own.
class Background {
 public:
  explicit Background(std::function<gxuError_t()> call);
  ~Background();
  bool done_within(std::chrono::milliseconds time);
  gxuError_t code();             // waits for it
  const std::string& message();  // the thread's message, if the call failed

 private:
  struct Answer {
    gxuError_t code;
    std::string message;
  };
  const Answer& answer();
  std::future<Answer> future_;
  std::unique_ptr<Answer> answer_;
  std::thread thread_;
};

// Holds a stream at a host function until it is opened.
class Gate {
 public:
  explicit Gate(gxuStream_t stream);
  ~Gate() { open(); }
  Gate(const Gate&) = delete;
  void open();
  bool reached() const;    // the stream has come to it
  bool timed_out() const;  // it was not opened in time: whoever waited for it would have waited for ever

 private:
  struct State;
  static void wait(void* state);
  std::shared_ptr<State> state_;
};

// Checks that `call` does not return while the gate is closed, and then succeeds.
void check_waits(Gate& gate, const char* what, std::function<gxuError_t()> call);
// Checks that `call` returns `expected` while the gate is closed, and leaves it closed.
void check_does_not_wait(Gate& gate, const char* what, std::function<gxuError_t()> call,
                         gxuError_t expected = gxuSuccess);

// ---- Objects that end themselves, on the device that is current

template <typename Handle, gxuError_t (*Library::*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  ~Owned() {
    if (handle != Handle{}) (rt.*destroy)(handle);
  }
  operator Handle() const { return handle; }  // NOLINT: used where the ABI's functions take the handle
  Handle release() { return std::exchange(handle, Handle{}); }
  Handle handle = {};
};

struct Stream : Owned<gxuStream_t, &Library::gxuStreamDestroy> {
  explicit Stream(unsigned flags = gxuStreamNonBlocking) { OK(rt.gxuStreamCreate(&handle, flags, 0)); }
};

struct Event : Owned<gxuEvent_t, &Library::gxuEventDestroy> {
  explicit Event(unsigned flags = gxuEventDisableTiming) { OK(rt.gxuEventCreate(&handle, flags)); }
};

struct Memory : Owned<void*, &Library::gxuFree> {
  explicit Memory(size_t size) { OK(rt.gxuMalloc(&handle, size)); }
  char* at(size_t offset) const { return static_cast<char*>(handle) + offset; }
};

struct Pinned : Owned<void*, &Library::gxuFreeHost> {
  explicit Pinned(size_t size);  // zeroed
  volatile unsigned char& operator[](size_t i) const { return static_cast<volatile unsigned char*>(handle)[i]; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(handle);
  }
};

struct Graph : Owned<gxuGraph_t, &Library::gxuGraphDestroy> {};
struct GraphExec : Owned<gxuGraphExec_t, &Library::gxuGraphExecDestroy> {};
struct Module : Owned<gxuModule_t, &Library::gxuModuleUnload> {};

// The current device for as long as it lives.
struct OnDevice {
  explicit OnDevice(int device) { OK(rt.gxuSetDevice(device)); }
  ~OnDevice() { rt.gxuSetDevice(0); }
};

using Bytes = std::vector<unsigned char>;

Bytes random_bytes(size_t size, unsigned seed = 1);
// Contents of device memory after the work of `stream`.
Bytes download(const void* pointer, size_t size, gxuStream_t stream = nullptr);
void upload(void* pointer, const Bytes& bytes, gxuStream_t stream = nullptr);
bool all_equal(const Bytes& bytes, int value);

// A call of every function that needs gxuInit, with arguments that are not null.
struct NamedCall {
  const char* name;
  std::function<gxuError_t()> call;
};
std::vector<NamedCall> every_call();

// The kernel that --kernel and --symbol name; skips the case where there is none.
struct Kernel {
  Kernel();
  explicit Kernel(const std::string& symbol);
  // Appends `digit` to out[p] for each program p.
  gxuError_t launch(void* out, int32_t digit, unsigned grid = 1, gxuStream_t stream = nullptr) const;
  Module module;
  gxuFunction_t function = nullptr;
};
unsigned kernel_threads();

}  // namespace gxu::abi_test
