#include "profiler_records.h"

#include <ATen/record_function.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "profiler.h"
#include "stream.h"

namespace gxu {
namespace detail {
std::atomic<bool> profiling{false};
}  // namespace detail

namespace {

std::mutex& records_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

ProfilerRecords& records() {
  static auto* instance = new ProfilerRecords;
  return *instance;
}

std::atomic<uint64_t> num_calls{0};
at::CallbackHandle operator_names = 0;

// What the thread is in, innermost last.
struct ThreadContext {
  std::vector<uint64_t> ops;
  std::vector<uint64_t> ranges;
  std::vector<const char*> names;
  bool works = false;  // executes an operator of a device

  HostContext context() const { return {ops.empty() ? 0 : ops.back(), ranges.empty() ? 0 : ranges.back()}; }
};

ThreadContext& thread_context() {
  static thread_local ThreadContext context;
  return context;
}

int64_t now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

int32_t thread_id() {
  static thread_local const auto id = static_cast<int32_t>(syscall(SYS_gettid));
  return id;
}

// What the runtime's reports call the stream.
uint64_t stream_number(c10::StreamId id) {
  uint64_t number = 0;
  if (id != 0 && runtime().gxuActivityGetStream != nullptr) {
    GXU_CALL(gxuActivityGetStream, &number, native_stream(id));
  }
  return number;
}

template <typename Element>
void pop(std::vector<Element>& stack) {
  if (!stack.empty()) {  // what was pushed before the profiler started is not there
    stack.pop_back();
  }
}

void add_activity(DeviceRecord record) {
  std::lock_guard<std::mutex> lock(records_mutex());
  if (is_profiling()) {
    records().activities.push_back(std::move(record));
  }
}

// Called by the runtime, from any thread.
void receive_activity(const gxuActivity* activity, void* /*data*/) {
  add_activity({activity->kind,
                static_cast<c10::DeviceIndex>(activity->device),
                activity->stream,
                static_cast<int64_t>(activity->start),
                static_cast<int64_t>(activity->end),
                activity->correlation,
                activity->name == nullptr ? "" : activity->name,
                {activity->grid[0], activity->grid[1], activity->grid[2]},
                activity->bytes,
                activity->copy_kind,
                {}});
}

at::CallbackHandle record_operator_names() {
  return at::addGlobalCallback(at::RecordFunctionCallback(
                                   [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
                                     thread_context().names.push_back(function.name());
                                     return nullptr;
                                   },
                                   [](const at::RecordFunction&, at::ObserverContext*) { pop(thread_context().names); })
                                   .scopes({at::RecordScope::FUNCTION}));
}

// Waits for the queued work of all devices without taking the report of a failed kernel from whoever synchronises next:
// of the calls that wait, gxuFree alone does not report.
void wait_for_devices() {
  for (c10::DeviceIndex device = 0; device < device_count(); ++device) {
    const DeviceScope scope(device);
    void* pointer = nullptr;
    if (runtime().gxuMalloc(&pointer, 1) == gxuSuccess) {
      runtime().gxuFree(pointer);
    }
  }
}

}  // namespace

void start_recording() {
  ensure_initialized();
  {
    std::lock_guard<std::mutex> lock(records_mutex());
    records() = {};
  }
  if (runtime().gxuActivityEnable != nullptr) {
    GXU_CALL(gxuActivityEnable, &receive_activity, nullptr);
  }
  operator_names = record_operator_names();
  detail::profiling = true;
}

ProfilerRecords stop_recording() {
  if (!is_profiling()) {
    return {};
  }
  wait_for_devices();
  if (runtime().gxuActivityDisable != nullptr) {
    runtime().gxuActivityDisable();
  }
  at::removeCallback(operator_names);
  std::lock_guard<std::mutex> lock(records_mutex());
  detail::profiling = false;
  return std::exchange(records(), {});
}

void push_operator(uint64_t id) { thread_context().ops.push_back(id); }
void pop_operator() { pop(thread_context().ops); }
void push_range(uint64_t id) { thread_context().ranges.push_back(id); }
void pop_range() { pop(thread_context().ranges); }

void RuntimeCall::start(const char* name) {
  id_ = num_calls.fetch_add(1, std::memory_order_relaxed) + 1;
  name_ = name;
  if (runtime().gxuActivitySetCorrelation != nullptr) {
    runtime().gxuActivitySetCorrelation(id_);
  }
  start_ = now();
}

void RuntimeCall::finish() {
  const int64_t end = now();
  if (runtime().gxuActivitySetCorrelation != nullptr) {
    runtime().gxuActivitySetCorrelation(0);
  }
  std::lock_guard<std::mutex> lock(records_mutex());
  if (is_profiling()) {
    records().calls.push_back({id_, name_, start_, end, thread_id(), thread_context().context()});
  }
}

void DelegatedWork::start(c10::DeviceIndex device, size_t bytes, gxuMemcpyKind kind) {
  ThreadContext& context = thread_context();
  if (context.works) {
    return;
  }
  context.works = true;
  device_ = device;
  bytes_ = bytes;
  kind_ = kind;
  start_ = now();
}

void DelegatedWork::finish() {
  ThreadContext& context = thread_context();
  context.works = false;
  const std::string name = context.names.empty() ? "operator" : context.names.back();
  add_activity({kind_ == gxuMemcpyDefault ? gxuActivityKernel : gxuActivityMemcpy,
                device_,
                stream_number(current_stream_id(device_)),
                start_,
                now(),
                0,
                name + " [delegate]",  // unlike the operator's own entry in tables of averages
                {0, 0, 0},
                bytes_,
                kind_,
                context.context()});
}

}  // namespace gxu
