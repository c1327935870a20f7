// Failures on demand, names of errors, and what was launched.
#include <cstdlib>
#include <cstring>

#include "fake.h"

namespace gxu::cuda {

thread_local CUctx_st* current_context = nullptr;
thread_local bool in_host_function = false;

namespace {

struct Failure {
  CUresult result;
  int skip;
  int count;
};

struct State {
  std::mutex mutex;
  std::map<std::string, Failure> failures;
  std::map<std::string, int> calls;
  std::vector<FakeCudaLaunch> launches;
  std::atomic<int> delay{0};
};

// Leaked: streams' threads use it while the process exits.
State& state() {
  static auto* instance = new State;
  return *instance;
}

struct ErrorText {
  CUresult result;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
#define FAKE_ERROR(name, text) {name, #name, text},
    FAKE_ERROR(CUDA_SUCCESS, "no error") FAKE_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument") FAKE_ERROR(
        CUDA_ERROR_OUT_OF_MEMORY, "out of memory") FAKE_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error")
        FAKE_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down")
            FAKE_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")
                FAKE_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")
                    FAKE_ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")
                        FAKE_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context") FAKE_ERROR(
                            CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")
                            FAKE_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle") FAKE_ERROR(
                                CUDA_ERROR_NOT_FOUND, "named symbol not found")
                                FAKE_ERROR(CUDA_ERROR_NOT_READY, "device not ready") FAKE_ERROR(
                                    CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")
                                    FAKE_ERROR(CUDA_ERROR_ASSERT, "device-side assert triggered")
                                        FAKE_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure") FAKE_ERROR(
                                            CUDA_ERROR_NOT_PERMITTED, "operation not permitted")
                                            FAKE_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported") FAKE_ERROR(
                                                CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                                "operation not permitted when stream is capturing")
                                                FAKE_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
                                                           "operation failed due to a previous error during capture")
                                                    FAKE_ERROR(CUDA_ERROR_UNKNOWN, "unknown error")
#undef FAKE_ERROR
};

CUresult give_failure(const char* function) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  ++shared.calls[function];
  const auto found = shared.failures.find(function);
  if (found == shared.failures.end()) return CUDA_SUCCESS;
  Failure& failure = found->second;
  if (failure.skip > 0) {
    --failure.skip;
    return CUDA_SUCCESS;
  }
  const CUresult result = failure.result;
  if (--failure.count == 0) shared.failures.erase(found);
  return result;
}

void read_environment() {
  const char* text = std::getenv("FAKE_CUDA_FAIL");
  if (text == nullptr) return;
  char function[64];
  int result, skip, count, length;
  for (const char* next = text; *next != '\0';) {
    skip = 0;
    count = 1;
    if (std::sscanf(next, "%63[^:]:%d%n", function, &result, &length) != 2) return;
    next += length;
    if (std::sscanf(next, ":%d%n", &skip, &length) == 1) next += length;
    if (std::sscanf(next, ":%d%n", &count, &length) == 1) next += length;
    fakeCudaFail(function, result, skip, count);
    if (*next == ',') ++next;
  }
}

const ErrorText* find_error(CUresult result) {
  for (const ErrorText& error : kErrors) {
    if (error.result == result) return &error;
  }
  return nullptr;
}

}  // namespace

CUresult enter(const char* function) { return give_failure(function); }

CUresult enter_context(const char* function) {
  if (const CUresult failure = give_failure(function); failure != CUDA_SUCCESS) return failure;
  if (in_host_function) return CUDA_ERROR_NOT_PERMITTED;
  if (current_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  return current_context->sticky;
}

int event_delay() { return state().delay; }

void write_launch(const FakeCudaLaunch& launch) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  shared.launches.push_back(launch);
}

}  // namespace gxu::cuda

CUresult cuInit(unsigned int flags) {
  static std::once_flag once;
  std::call_once(once, read_environment);
  FAKE_ENTER(enter)
  return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDriverGetVersion(int* version) {
  FAKE_ENTER(enter)
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  FAKE_ENTER(enter)
  const ErrorText* found = find_error(error);
  *name = found != nullptr ? found->name : nullptr;
  return found != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  FAKE_ENTER(enter)
  const ErrorText* found = find_error(error);
  *text = found != nullptr ? found->text : nullptr;
  return found != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

#define FAKE_CONTROL extern "C" __attribute__((visibility("default")))

FAKE_CONTROL void fakeCudaFail(const char* function, int result, int skip, int count) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  shared.failures[function] = {static_cast<CUresult>(result), skip, count};
}

FAKE_CONTROL void fakeCudaReset(void) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  shared.failures.clear();
  shared.launches.clear();
  shared.delay = 0;
}

FAKE_CONTROL int fakeCudaCalls(const char* function) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  return shared.calls[function];
}

FAKE_CONTROL void fakeCudaDelayEvents(int microseconds) { state().delay = microseconds; }

FAKE_CONTROL int fakeCudaLaunchCount(void) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  return static_cast<int>(shared.launches.size());
}

FAKE_CONTROL int fakeCudaGetLaunch(int index, FakeCudaLaunch* launch) {
  State& shared = state();
  std::lock_guard lock(shared.mutex);
  if (index < 0 || static_cast<size_t>(index) >= shared.launches.size()) return 0;
  *launch = shared.launches[static_cast<size_t>(index)];
  return 1;
}
