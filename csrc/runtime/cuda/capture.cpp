#include "capture.h"

#include <utility>

#include "../common/api.h"
#include "../common/capture_errors.h"
#include "../common/host_function.h"
#include "device.h"
#include "event.h"
#include "query.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

using ResourceList = std::vector<std::shared_ptr<void>>;

std::mutex& gate() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

std::atomic<unsigned long long> last_id{0};

struct Leftovers {
  std::mutex mutex;
  ResourceList resources;
};

// Leaked on purpose: the driver may end graphs while static destructors run.
Leftovers& leftovers() {
  static auto* instance = new Leftovers;
  return *instance;
}

}  // namespace

// What the driver hands back when the last user of a graph is gone.
class Capture::Resources {
 public:
  void add(std::shared_ptr<void> resource) {
    std::lock_guard lock(mutex_);
    list_.push_back(std::move(resource));
  }

  static void destroy(void* resources) {
    const std::unique_ptr<Resources> owned(static_cast<Resources*>(resources));
    Leftovers& left = leftovers();
    std::lock_guard lock(left.mutex);
    for (std::shared_ptr<void>& resource : owned->list_) left.resources.push_back(std::move(resource));
  }

 private:
  std::mutex mutex_;
  ResourceList list_;
};

void release_resources_of_ended_graphs() {
  ResourceList released;
  Leftovers& left = leftovers();
  std::lock_guard lock(left.mutex);
  released.swap(left.resources);
}

CaptureGate::CaptureGate() : lock_(gate()) {}

Capture::Capture(Stream& origin) : origin_(origin), id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {}

void Capture::begin(Stream& origin) {
  auto capture = std::make_shared<Capture>(origin);
  const CaptureGate gate;
  // Relaxed: other threads, and this one, go on allocating and loading meanwhile.
  GXU_DRIVER(cuStreamBeginCapture_v2, origin.handle(), CU_STREAM_CAPTURE_MODE_RELAXED);
  origin.enter_capture(std::move(capture));
}

void Capture::join(const std::shared_ptr<Capture>& capture, Stream& stream, CUevent event) {
  const CaptureGate gate;
  GXU_DRIVER(cuStreamWaitEvent, stream.handle(), event, 0);
  if (stream.is_capturing()) return;
  stream.enter_capture(capture);
  std::lock_guard lock(capture->mutex_);
  capture->joined_.push_back(&stream);
}

gxuStreamCaptureStatus Capture::status() {
  if (invalid_.load(std::memory_order_acquire)) return gxuStreamCaptureStatusInvalidated;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  query(origin_.device(), [&] { GXU_DRIVER(cuStreamIsCapturing, origin_.handle(), &status); });
  if (status == CU_STREAM_CAPTURE_STATUS_INVALIDATED) invalid_ = true;
  return static_cast<gxuStreamCaptureStatus>(status);
}

void Capture::require_active() {
  if (invalid_.load(std::memory_order_acquire)) fail_invalid_capture();
}

void Capture::invalidate() {
  invalid_ = true;
  driver.cuStreamQuery(origin_.handle());  // what the driver does not allow makes the capture invalid for it, too
}

void Capture::retain(std::shared_ptr<void> resource) {
  std::lock_guard lock(mutex_);
  if (resources_ == nullptr) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    uint64_t id = 0;
    CUgraph graph = nullptr;
    GXU_DRIVER(cuStreamGetCaptureInfo_v2, origin_.handle(), &status, &id, &graph, nullptr, nullptr);
    if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE) fail_invalid_capture();
    auto owned = std::make_unique<Resources>();
    CUuserObject object = nullptr;
    GXU_DRIVER(cuUserObjectCreate, &object, owned.get(), &Resources::destroy, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
    Resources* made = owned.release();
    const CUresult result = driver.cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE);
    if (result != CUDA_SUCCESS) driver.cuUserObjectRelease(object, 1);
    check(result, "cuGraphRetainUserObject");
    resources_ = made;
  }
  resources_->add(std::move(resource));
}

// The driver wants every stream of a capture brought back to the first one before its end; this contract does not.
void Capture::join_streams() {
  for (Stream* stream : joined_) {
    const ContextScope scope(stream->device());
    CUevent event = nullptr;
    if (driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS) continue;
    if (driver.cuEventRecord(event, stream->handle()) == CUDA_SUCCESS) {
      driver.cuStreamWaitEvent(origin_.handle(), event, 0);
    }
    driver.cuEventDestroy_v2(event);
  }
}

CUgraph Capture::end() {
  std::lock_guard lock(mutex_);
  if (!invalid_.load(std::memory_order_acquire)) join_streams();
  CUgraph graph = nullptr;
  const ContextScope scope(origin_.device());
  const CUresult result = driver.cuStreamEndCapture(origin_.handle(), &graph);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (result != CUDA_SUCCESS && driver.cuStreamIsCapturing(origin_.handle(), &status) == CUDA_SUCCESS &&
      status != CU_STREAM_CAPTURE_STATUS_NONE) {
    fail_driver(result, "cuStreamEndCapture");  // the capture goes on
  }
  ended_.store(true, std::memory_order_release);
  for (Stream* stream : std::exchange(joined_, {})) stream->leave_capture();
  origin_.leave_capture();
  if (invalid_.load(std::memory_order_acquire) && !is_sticky(result)) {
    if (graph != nullptr) driver.cuGraphDestroy(graph);
    fail_ended_invalid();
  }
  check(result, "cuStreamEndCapture");
  return graph;
}

std::shared_ptr<Capture> Stream::capture() {
  if (!is_capturing()) return nullptr;
  std::lock_guard lock(mutex_);
  return capture_;
}

void Stream::enter_capture(std::shared_ptr<Capture> capture) {
  std::lock_guard lock(mutex_);
  capture_ = std::move(capture);
  capturing_.store(true, std::memory_order_release);
}

void Stream::leave_capture() {
  std::lock_guard lock(mutex_);
  capture_.reset();
  capturing_.store(false, std::memory_order_release);
}

void Stream::forbid_during_capture(const char* function) {
  if (std::shared_ptr<Capture> active = capture()) [[unlikely]] {
    active->invalidate();
    fail_during_capture(function);
  }
}

void Stream::require_valid_capture() {
  if (std::shared_ptr<Capture> active = capture()) [[unlikely]] {
    active->require_active();
  }
}

}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuStreamBeginCapture(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    forbid_in_host_function("gxuStreamBeginCapture");
    if (found.is_default()) fail_default_stream_captures();
    if (found.is_capturing()) fail_captures_already();
    const ContextScope scope(found.device());
    Capture::begin(found);
  });
}

gxuError_t gxuStreamIsCapturing(gxuStream_t stream, gxuStreamCaptureStatus* status) {
  return api([&] {
    require_argument(status, "status");
    const std::shared_ptr<Capture> capture = resolve_stream(stream).capture();
    *status = capture ? capture->status() : gxuStreamCaptureStatusNone;
  });
}

gxuError_t gxuStreamGetCaptureInfo(gxuStream_t stream, gxuStreamCaptureStatus* status, unsigned long long* id) {
  return api([&] {
    require_argument(status, "status");
    require_argument(id, "id");
    const std::shared_ptr<Capture> capture = resolve_stream(stream).capture();
    *status = capture ? capture->status() : gxuStreamCaptureStatusNone;
    *id = capture ? capture->id() : 0;
  });
}
