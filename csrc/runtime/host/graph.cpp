#include "graph.h"

#include <atomic>
#include <utility>

#include "../common/capture_errors.h"
#include "api.h"
#include "device.h"
#include "handle_table.h"
#include "stream.h"

namespace gxu::host {
namespace {

struct Graph {
  std::shared_ptr<const GraphBody> body;
};

struct GraphExec {
  std::shared_ptr<const GraphBody> body;
};

using GraphTable = HandleTable<gxuGraph_t, Graph, HandleKind::kGraph>;
using GraphExecTable = HandleTable<gxuGraphExec_t, GraphExec, HandleKind::kGraphExec>;

GraphTable& graph_handles() {
  static auto* table = new GraphTable;
  return *table;
}

GraphExecTable& exec_handles() {
  static auto* table = new GraphExecTable;
  return *table;
}

}  // namespace

unsigned long long Capture::next_id() {
  static std::atomic<unsigned long long> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

void Capture::append(Record record) {
  std::lock_guard lock(mutex_);
  if (status_ != gxuStreamCaptureStatusActive) fail_invalid_capture();
  if (const auto* launch = std::get_if<KernelLaunch>(&record)) {
    std::shared_ptr<Image> image = launch->function->image->shared_from_this();
    if (body_->images.empty() || body_->images.back() != image) body_->images.push_back(std::move(image));
  }
  body_->records.push_back(std::move(record));
}

void Capture::add_stream(Stream& stream) {
  std::lock_guard lock(mutex_);
  streams_.push_back(&stream);
}

void Capture::invalidate() {
  std::lock_guard lock(mutex_);
  status_ = gxuStreamCaptureStatusInvalidated;
}

gxuStreamCaptureStatus Capture::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

std::shared_ptr<GraphBody> Capture::finish() {
  std::vector<Stream*> streams;
  gxuStreamCaptureStatus status;
  {
    std::lock_guard lock(mutex_);
    status = std::exchange(status_, gxuStreamCaptureStatusNone);
    streams.swap(streams_);
  }
  for (Stream* stream : streams) stream->leave_capture();
  if (status == gxuStreamCaptureStatusInvalidated) fail_ended_invalid();
  return std::move(body_);
}

std::shared_ptr<Capture> Stream::capture() {
  if (!capturing_.load(std::memory_order_acquire)) return nullptr;
  std::lock_guard lock(mutex_);
  return capture_;
}

bool Stream::join_capture(const std::shared_ptr<Capture>& capture) {
  std::lock_guard lock(mutex_);
  if (capture_) return capture_ == capture;
  capture_ = capture;
  capturing_.store(true, std::memory_order_release);
  if (&capture->origin() != this) capture->add_stream(*this);
  return true;
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

void Stream::append_to_capture(std::unique_lock<std::mutex>& lock, Record record) {
  const std::shared_ptr<Capture> capture = capture_;
  lock.unlock();
  capture->append(std::move(record));
}

void wait_in_capture(Stream& stream, const Event::Position& recorded) {
  const std::shared_ptr<Capture> own = stream.capture();
  if (!recorded.capture) {
    own->invalidate();
    fail_event_outside_capture();
  }
  if (recorded.capture->status() == gxuStreamCaptureStatusNone) fail_event_of_ended_capture();
  if (!stream.join_capture(recorded.capture)) {
    own->invalidate();
    recorded.capture->invalidate();
    fail_two_captures();
  }
}

}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuStreamBeginCapture(gxuStream_t stream) {
  return api([&] {
    Stream& found = resolve_stream(stream);
    forbid_in_host_function("gxuStreamBeginCapture");
    if (found.is_default()) fail_default_stream_captures();
    if (!found.join_capture(std::make_shared<Capture>(found))) fail_captures_already();
  });
}

gxuError_t gxuStreamEndCapture(gxuStream_t stream, gxuGraph_t* graph) {
  return api([&] {
    require_argument(graph, "graph");
    *graph = nullptr;
    Stream& found = resolve_stream(stream);
    const std::shared_ptr<Capture> capture = found.capture();
    if (!capture) fail_not_capturing();
    if (&capture->origin() != &found) fail_joined_capture();
    auto owned = std::make_unique<Graph>(Graph{capture->finish()});
    *graph = graph_handles().insert(owned.get());
    owned.release();
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

gxuError_t gxuGraphInstantiate(gxuGraphExec_t* exec, gxuGraph_t graph) {
  return api([&] {
    require_argument(exec, "exec");
    auto owned = std::make_unique<GraphExec>(GraphExec{graph_handles().get(graph).body});
    *exec = exec_handles().insert(owned.get());
    owned.release();
  });
}

gxuError_t gxuGraphLaunch(gxuGraphExec_t exec, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuGraphLaunch");
    const GraphExec& found = exec_handles().get(exec);
    Stream& target = resolve_stream(stream);
    target.order_with_default_stream();
    target.enqueue(Replay{found.body});
  });
}

gxuError_t gxuGraphExecDestroy(gxuGraphExec_t exec) {
  return api([&] { delete exec_handles().take(exec); });
}

gxuError_t gxuGraphDestroy(gxuGraph_t graph) {
  return api([&] { delete graph_handles().take(graph); });
}
