// Stream capture: which streams take part, whether it is still valid, and what its graph has to keep alive.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "driver.h"

namespace gxu::cuda {

class Stream;

class Capture {
 public:
  explicit Capture(Stream& origin);

  // Begins the driver's capture on the origin.
  static void begin(Stream& origin);
  // Lets the stream wait for an event of the capture, and take part in it from there on.
  static void join(const std::shared_ptr<Capture>& capture, Stream& stream, CUevent event);

  Stream& origin() const { return origin_; }
  unsigned long long id() const { return id_; }

  // Asks the driver too: it may have found something wrong on its own.
  gxuStreamCaptureStatus status();
  bool has_ended() const { return ended_.load(std::memory_order_acquire); }
  void require_active();
  void invalidate();

  // Keeps what a captured piece of work needs until the graph, and every executable copy of it, is gone and has run;
  // returns its address.
  template <typename T>
  T* keep(std::shared_ptr<T> resource) {
    T* address = resource.get();
    retain(std::move(resource));
    return address;
  }

  // Ends the capture for all of its streams and returns the driver's graph.
  CUgraph end();

 private:
  class Resources;

  void retain(std::shared_ptr<void> resource);
  void join_streams();

  Stream& origin_;
  const unsigned long long id_;
  std::atomic<bool> invalid_{false};
  std::atomic<bool> ended_{false};
  std::mutex mutex_;
  std::vector<Stream*> joined_;
  Resources* resources_ = nullptr;  // the graph owns them
};

// While it lives no capture begins or is joined.
class CaptureGate {
 public:
  CaptureGate();

 private:
  std::lock_guard<std::mutex> lock_;
};

// Destroys what ended graphs have kept. The driver ends graphs on a thread that must not call it, so this is left to
// the functions that load and unload.
void release_resources_of_ended_graphs();

}  // namespace gxu::cuda
