// Graph capture and replay: work of one or several streams recorded once and enqueued again as one piece.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "event.h"
#include "module.h"
#include "record.h"

namespace gxu::host {

// Records in the order of the calls that captured them, which satisfies every dependency between them. Replay runs
// them one after another on the stream that the graph is launched on.
struct GraphBody {
  std::vector<Record> records;
  std::vector<std::shared_ptr<Image>> images;  // keeps the kernels loaded
};

// A capture in progress: begun on one stream, joined by the streams that wait for its events.
class Capture {
 public:
  explicit Capture(Stream& origin) : origin_(origin) { streams_.push_back(&origin); }

  Stream& origin() const { return origin_; }
  unsigned long long id() const { return id_; }
  void append(Record record);
  void add_stream(Stream& stream);
  void invalidate();
  gxuStreamCaptureStatus status() const;
  // Ends the capture for all its streams and returns what it holds.
  std::shared_ptr<GraphBody> finish();

 private:
  static unsigned long long next_id();

  Stream& origin_;
  const unsigned long long id_ = next_id();  // never 0
  mutable std::mutex mutex_;
  gxuStreamCaptureStatus status_ = gxuStreamCaptureStatusActive;
  std::vector<Stream*> streams_;
  std::shared_ptr<GraphBody> body_ = std::make_shared<GraphBody>();
};

// gxuStreamWaitEvent where the stream is capturing or the event was recorded in a capture.
void wait_in_capture(Stream& stream, const Event::Position& recorded);

}  // namespace gxu::host
