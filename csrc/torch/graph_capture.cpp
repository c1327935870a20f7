#include "graph_capture.h"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <array>
#include <unordered_map>

#include "device_name.h"
#include "stream.h"

namespace gxu {
namespace {

struct CaptureTable {
  std::mutex mutex;
  std::unordered_map<uint64_t, std::shared_ptr<GraphWork>> by_id;
};

CaptureTable& captures() {
  static auto* table = new CaptureTable;
  return *table;
}

// The runtime's number of the capture that `stream` takes part in, 0 where it takes part in none.
uint64_t capture_id(c10::DeviceIndex device, c10::StreamId stream) {
  const DeviceScope scope(device);
  gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
  unsigned long long id = 0;
  TORCH_CHECK_NOT_IMPLEMENTED(runtime().gxuStreamGetCaptureInfo != nullptr, "The runtime library ", runtime_path(),
                              " cannot capture operators: it has no gxuStreamGetCaptureInfo.");
  GXU_CALL(gxuStreamGetCaptureInfo, native_stream(stream), &status, &id);
  return status == gxuStreamCaptureStatusNone ? 0 : id;
}

// What a replay's generator starts from, on its way into the stream.
struct BaseUpdate {
  PhiloxKey* target;
  PhiloxKey value;
};

void apply_base_update(void* argument) {
  const std::unique_ptr<BaseUpdate> update(static_cast<BaseUpdate*>(argument));
  *update->target = update->value;
}

// Work of a graph runs on whatever thread executes the stream: it must not see that thread's dispatch modes.
class CleanDispatchScope {
 public:
  CleanDispatchScope()
      : guard_(c10::default_included_set,
               c10::default_excluded_set | c10::autograd_dispatch_keyset_with_ADInplaceOrView) {}

 private:
  c10::impl::ForceDispatchKeyGuard guard_;
};

// Apart from the errors: every operator that waits for its stream looks here.
constinit std::atomic<bool> any_asynchronous_error{false};

struct AsynchronousErrors {
  std::mutex mutex;
  std::array<std::string, kMaxDevices> messages;
};

AsynchronousErrors& asynchronous_errors() {
  static auto* errors = new AsynchronousErrors;
  return *errors;
}

void record_replay_error(c10::DeviceIndex device, const std::string& step, const std::string& what) {
  record_asynchronous_error(device, c10::str("A replayed graph failed on ", device_name(), ":",
                                             static_cast<int>(device), " in ", step, ": ", what));
}

}  // namespace

std::atomic<int> detail::num_captures{0};

GraphWork* detail::find_capture(c10::DeviceIndex device) {
  const uint64_t id = capture_id(device, current_stream_id(device));
  if (id == 0) {
    return nullptr;
  }
  std::lock_guard<std::mutex> lock(captures().mutex);
  const auto found = captures().by_id.find(id);
  // A capture that a caller of the runtime began is not PyTorch's to record operators in.
  TORCH_CHECK(found != captures().by_id.end(),
              "The current stream captures a graph that was begun through the runtime's C interface, which records "
              "kernels and copies but no operators: capture with torch.",
              device_name(), ".graph.");
  return found->second.get();
}

void GraphWork::enqueue(std::string name, std::function<void()> function) {
  auto step = std::make_unique<Step>(Step{std::move(name), std::move(function), device_});
  const DeviceScope scope(device_);
  GXU_CALL(gxuLaunchHostFunc, native_stream(current_stream_id(device_)), &GraphWork::run_step, step.get());
  std::lock_guard<std::mutex> lock(mutex_);
  steps_.push_back(std::move(step));
}

void GraphWork::run_step(void* argument) {
  const auto& step = *static_cast<const Step*>(argument);
  try {
    const CleanDispatchScope scope;
    step.function();
  } catch (const c10::Error& error) {
    record_replay_error(step.device, step.name, error.what_without_backtrace());
  } catch (const std::exception& error) {
    record_replay_error(step.device, step.name, error.what());
  }
}

GraphWork::RandomPosition GraphWork::reserve_words(GeneratorImpl& generator, uint64_t words) {
  std::lock_guard<std::mutex> lock(mutex_);
  Draws* draws = nullptr;
  for (const auto& known : draws_) {
    if (static_cast<GeneratorImpl*>(known->generator.get())->state() == generator.state()) {
      draws = known.get();
    }
  }
  if (draws == nullptr) {
    draws_.push_back(std::make_unique<Draws>());
    draws = draws_.back().get();
    draws->generator = generator.graphsafe_get_state();
  }
  const RandomPosition position{&draws->base, draws->words / kPhiloxBlockWords};
  draws->words += whole_blocks(words);
  return position;
}

void GraphWork::advance_generators(c10::Stream stream) {
  const DeviceScope scope(device_);
  for (const auto& draws : draws_) {
    auto& generator = static_cast<GeneratorImpl&>(*draws->generator);
    auto update = std::make_unique<BaseUpdate>(BaseUpdate{&draws->base, gxu::reserve_words(generator, draws->words)});
    GXU_CALL(gxuLaunchHostFunc, native_stream(stream.id()), &apply_base_update, update.get());
    update.release();
  }
}

void GraphWork::keep(const at::Tensor& tensor) {
  std::lock_guard<std::mutex> lock(mutex_);
  kept_.push_back(tensor);
}

void GraphWork::fail(const std::string& message) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failure_.empty()) {
    failure_ = message;
  }
}

std::string GraphWork::failure() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

std::vector<std::string> GraphWork::names() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> names;
  for (const auto& step : steps_) {
    names.push_back(step->name);
  }
  return names;
}

void forbid_in_capture(c10::DeviceIndex device, const char* what) {
  if (GraphWork* work = current_capture(device)) {
    const std::string message = std::string(what) +
                                " cannot be captured in a graph: it waits for the device, which runs nothing during a "
                                "capture. Move it out of the captured region.";
    work->fail(message);
    TORCH_CHECK(false, message);
  }
}

void begin_capture(c10::Stream stream, std::shared_ptr<GraphWork> work) {
  const DeviceScope scope(stream.device_index());
  GXU_CALL(gxuStreamBeginCapture, native_stream(stream.id()));
  const uint64_t id = capture_id(stream.device_index(), stream.id());
  std::lock_guard<std::mutex> lock(captures().mutex);
  captures().by_id.emplace(id, std::move(work));
  detail::num_captures.fetch_add(1, std::memory_order_relaxed);
}

gxuGraph_t end_capture(c10::Stream stream, GraphWork& work) {
  const DeviceScope scope(stream.device_index());
  const uint64_t id = capture_id(stream.device_index(), stream.id());
  gxuGraph_t graph = nullptr;
  const gxuError_t error = runtime().gxuStreamEndCapture(native_stream(stream.id()), &graph);
  if (error != gxuErrorStreamCaptureUnmatched) {  // the capture has ended, with or without a graph
    std::lock_guard<std::mutex> lock(captures().mutex);
    if (captures().by_id.erase(id) != 0) {
      detail::num_captures.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  const std::string failure = work.failure();
  if (!failure.empty()) {
    if (graph != nullptr) {
      runtime().gxuGraphDestroy(graph);
    }
    TORCH_CHECK(false, failure);
  }
  check(error, "gxuStreamEndCapture");
  return graph;
}

void record_asynchronous_error(c10::DeviceIndex device, const std::string& message) {
  AsynchronousErrors& errors = asynchronous_errors();
  std::lock_guard<std::mutex> lock(errors.mutex);
  std::string& first = errors.messages[device];
  if (first.empty()) {
    first = message;
  }
  any_asynchronous_error.store(true, std::memory_order_release);
}

void throw_asynchronous_error(c10::DeviceIndex device) {
  if (C10_LIKELY(!any_asynchronous_error.load(std::memory_order_acquire))) {
    return;
  }
  AsynchronousErrors& errors = asynchronous_errors();
  std::string message;
  {
    std::lock_guard<std::mutex> lock(errors.mutex);
    message.swap(errors.messages[device]);
  }
  TORCH_CHECK(message.empty(), message);
}

}  // namespace gxu
