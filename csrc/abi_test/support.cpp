#include "support.h"

#include <condition_variable>
#include <cstring>
#include <mutex>

#include "worker.h"

namespace gxu::abi_test {

Session& session() {
  static Session instance;
  return instance;
}

std::chrono::milliseconds patience() {
  return std::chrono::milliseconds(static_cast<long>(1000 * session().options.patience));
}

void skip(const std::string& reason) { throw Skipped{reason}; }

void need_two_devices() {
  if (session().device_count < 2) skip("needs two devices, and the library has one");
}

void start_library() {
  OK(rt.gxuInit(0));
  OK(rt.gxuGetDeviceCount(&session().device_count));
  session().properties.struct_size = sizeof(gxuDeviceProperties);
  OK(rt.gxuGetDeviceProperties(&session().properties, 0));
}

std::string describe(gxuError_t code) {
  std::string text = rt.gxuGetErrorName(code);
  if (code != gxuSuccess && code != gxuErrorNotReady) text += " (" + std::string(rt.gxuGetLastErrorMessage()) + ")";
  return text;
}

std::string last_error_problem(gxuError_t code) {
  if (code == gxuSuccess || code == gxuErrorNotReady) {
    const gxuError_t last = rt.gxuPeekAtLastError();
    return last == gxuSuccess ? "" : std::string("the last error is ") + rt.gxuGetErrorName(last);
  }
  if (const gxuError_t last = rt.gxuPeekAtLastError(); last != code) {
    return std::string("gxuPeekAtLastError gives ") + rt.gxuGetErrorName(last);
  }
  const char* message = rt.gxuGetLastErrorMessage();
  if (message == nullptr || std::strlen(message) < 8) return "gxuGetLastErrorMessage says nothing";
  if (const gxuError_t last = rt.gxuGetLastError(); last != code) {
    return std::string("gxuGetLastError gives ") + rt.gxuGetErrorName(last);
  }
  if (rt.gxuPeekAtLastError() != gxuSuccess) return "gxuGetLastError does not clear the error";
  return "";
}

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + patience();
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(200us);
  }
  return true;
}

Background::Background(std::function<gxuError_t()> call) {
  std::packaged_task<Answer()> task([call = std::move(call)] {
    const gxuError_t code = call();
    const char* message = code == gxuSuccess ? "" : rt.gxuGetLastErrorMessage();
    return Answer{code, message};
  });
  future_ = task.get_future();
  thread_ = std::thread(std::move(task));
}

Background::~Background() { thread_.join(); }

bool Background::done_within(std::chrono::milliseconds time) {
  return answer_ || future_.wait_for(time) == std::future_status::ready;
}

const Background::Answer& Background::answer() {
  if (!answer_) answer_ = std::make_unique<Answer>(future_.get());
  return *answer_;
}

gxuError_t Background::code() { return answer().code; }
const std::string& Background::message() { return answer().message; }

struct Gate::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false, opened = false, timed_out = false;
};

Gate::Gate(gxuStream_t stream) : state_(std::make_shared<State>()) {
  // The stream's own reference, which its call gives back.
  auto* held = new std::shared_ptr<State>(state_);
  OK(rt.gxuLaunchHostFunc(stream, wait, held));
}

void Gate::wait(void* held) {
  const std::unique_ptr<std::shared_ptr<State>> reference(static_cast<std::shared_ptr<State>*>(held));
  State& state = **reference;
  std::unique_lock lock(state.mutex);
  state.reached = true;
  state.changed.notify_all();
  state.timed_out = !state.changed.wait_for(lock, 2 * patience(), [&] { return state.opened; });
}

void Gate::open() {
  std::lock_guard lock(state_->mutex);
  state_->opened = true;
  state_->changed.notify_all();
}

bool Gate::reached() const {
  std::lock_guard lock(state_->mutex);
  return state_->reached;
}

bool Gate::timed_out() const {
  std::lock_guard lock(state_->mutex);
  return state_->timed_out;
}

void check_waits(Gate& gate, const char* what, std::function<gxuError_t()> call) {
  Background background(std::move(call));
  BOOST_CHECK_MESSAGE(!background.done_within(kMoment), what << " returned before the work it must wait for was done");
  gate.open();
  BOOST_REQUIRE_MESSAGE(background.done_within(patience()), what << " did not return after the work was done");
  BOOST_CHECK_MESSAGE(background.code() == gxuSuccess,
                      what << " gave " << rt.gxuGetErrorName(background.code()) << ": " << background.message());
}

void check_does_not_wait(Gate& gate, const char* what, std::function<gxuError_t()> call, gxuError_t expected) {
  Background background(std::move(call));
  const bool returned = background.done_within(patience() / 2);
  if (!returned) gate.open();
  BOOST_CHECK_MESSAGE(returned, what << " waited for queued work");
  BOOST_CHECK_MESSAGE(background.code() == expected,
                      what << " gave " << rt.gxuGetErrorName(background.code()) << ": " << background.message());
}

Pinned::Pinned(size_t size) {
  OK(rt.gxuMallocHost(&handle, size));
  std::memset(handle, 0, size);
}

Bytes random_bytes(size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  Bytes bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(generator());
  return bytes;
}

Bytes download(const void* pointer, size_t size, gxuStream_t stream) {
  Bytes bytes(size, 0xa5);
  OK(rt.gxuMemcpyAsync(bytes.data(), pointer, size, gxuMemcpyDeviceToHost, stream));
  return bytes;
}

void upload(void* pointer, const Bytes& bytes, gxuStream_t stream) {
  OK(rt.gxuMemcpyAsync(pointer, bytes.data(), bytes.size(), gxuMemcpyHostToDevice, stream));
}

bool all_equal(const Bytes& bytes, int value) {
  for (const unsigned char byte : bytes) {
    if (byte != value) return false;
  }
  return true;
}

unsigned kernel_threads() {
  const unsigned threads = session().options.threads;
  return threads ? threads : std::max(1u, static_cast<unsigned>(session().properties.warp_size));
}

Kernel::Kernel() : Kernel(session().options.symbol) {}

Kernel::Kernel(const std::string& symbol) {
  if (symbol.empty()) skip("needs a kernel of the device: give --kernel and --symbol (see --help)");
  OK(rt.gxuModuleLoad(&module.handle, session().options.kernel.c_str()));
  OK(rt.gxuModuleGetFunction(&function, module, symbol.c_str()));
}

gxuError_t Kernel::launch(void* out, int32_t digit, unsigned grid, gxuStream_t stream) const {
  void* none = nullptr;  // Triton's kernels have two more parameters: their scratch memory
  void* parameters[] = {&out, &digit, &none, &none};
  return rt.gxuLaunchKernel(function, grid, 1, 1, kernel_threads(), 1, 1, 0, stream, parameters);
}

std::vector<NamedCall> every_call() {
  // Room for any result, and stand-ins for handles: no call of these may get as far as looking at them.
  static long long room[64];
  static gxuDeviceProperties properties{};
  static gxuPointerAttributes attributes{};
  static gxuIpcMemHandle_t ipc{};
  properties.struct_size = sizeof properties;
  auto* pointer = reinterpret_cast<void**>(room);
  auto* number = reinterpret_cast<int*>(room);
  auto* bytes = reinterpret_cast<size_t*>(room);
  const auto stream = reinterpret_cast<gxuStream_t>(room);
  const auto event = reinterpret_cast<gxuEvent_t>(room);
  const auto module = reinterpret_cast<gxuModule_t>(room);
  const auto function = reinterpret_cast<gxuFunction_t>(room);
  const auto graph = reinterpret_cast<gxuGraph_t>(room);
  const auto exec = reinterpret_cast<gxuGraphExec_t>(room);
  const auto status = reinterpret_cast<gxuStreamCaptureStatus*>(room);
  std::vector<NamedCall> calls;
#define CALL(name, ...) calls.push_back({#name, [=] { return rt.name(__VA_ARGS__); }})
  CALL(gxuGetDeviceCount, number);
  CALL(gxuGetDevice, number);
  CALL(gxuSetDevice, 0);
  CALL(gxuGetDeviceProperties, &properties, 0);
  CALL(gxuDeviceSynchronize);
  CALL(gxuDeviceCanAccessPeer, number, 0, 0);
  CALL(gxuMalloc, pointer, 64);
  CALL(gxuFree, room);
  CALL(gxuMallocHost, pointer, 64);
  CALL(gxuFreeHost, room);
  CALL(gxuMemGetInfo, bytes, bytes + 1);
  CALL(gxuPointerGetAttributes, &attributes, room);
  CALL(gxuMemcpyAsync, room, room + 8, 8, gxuMemcpyDefault, stream);
  CALL(gxuMemsetAsync, room, 0, 8, stream);
  CALL(gxuStreamCreate, reinterpret_cast<gxuStream_t*>(pointer), gxuStreamDefault, 0);
  CALL(gxuStreamDestroy, stream);
  CALL(gxuStreamSynchronize, stream);
  CALL(gxuStreamQuery, stream);
  CALL(gxuStreamWaitEvent, stream, event, 0);
  CALL(gxuStreamGetPriorityRange, number, number + 1);
  CALL(gxuLaunchHostFunc, stream, [](void*) {}, nullptr);
  CALL(gxuEventCreate, reinterpret_cast<gxuEvent_t*>(pointer), gxuEventDefault);
  CALL(gxuEventDestroy, event);
  CALL(gxuEventRecord, event, stream);
  CALL(gxuEventQuery, event);
  CALL(gxuEventSynchronize, event);
  CALL(gxuEventElapsedTime, reinterpret_cast<float*>(room), event, event);
  CALL(gxuModuleLoad, reinterpret_cast<gxuModule_t*>(pointer), "/nonexistent/image");
  CALL(gxuModuleLoadData, reinterpret_cast<gxuModule_t*>(pointer), room, sizeof room);
  CALL(gxuModuleUnload, module);
  CALL(gxuModuleGetFunction, reinterpret_cast<gxuFunction_t*>(pointer), module, "kernel");
  CALL(gxuFuncSetAttribute, function, gxuFuncAttributeMaxDynamicSharedMemorySize, 0);
  CALL(gxuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, stream, pointer);
  CALL(gxuStreamBeginCapture, stream);
  CALL(gxuStreamEndCapture, stream, reinterpret_cast<gxuGraph_t*>(pointer));
  CALL(gxuStreamIsCapturing, stream, status);
  CALL(gxuGraphInstantiate, reinterpret_cast<gxuGraphExec_t*>(pointer), graph);
  CALL(gxuGraphLaunch, exec, stream);
  CALL(gxuGraphExecDestroy, exec);
  CALL(gxuGraphDestroy, graph);
  CALL(gxuIpcGetMemHandle, &ipc, room);
  CALL(gxuIpcOpenMemHandle, pointer, ipc);
  CALL(gxuIpcCloseMemHandle, room);
  if (rt.gxuStreamGetCaptureInfo != nullptr) {
    CALL(gxuStreamGetCaptureInfo, stream, status, reinterpret_cast<unsigned long long*>(room + 8));
  }
#undef CALL
  return calls;
}

}  // namespace gxu::abi_test
