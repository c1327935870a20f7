// Events: positions in streams, with a time where the event asks for one.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "handle_table.h"

namespace gxu::host {

class Capture;
class Device;
class Stream;

class Event {
 public:
  struct Position {
    Stream* stream;  // nullptr: the event has not been recorded
    uint64_t position;
    std::shared_ptr<Capture> capture;  // set when the event was recorded in a capturing stream
  };

  void configure(Device& device, unsigned int flags);
  // Forgets the recording. Events are handed out again after their destruction; a stamp that is still queued then finds
  // a later ticket or an event without a recording.
  void retire();

  void record(Stream& stream);
  Position position() const;
  bool is_finished() const;

  // Stores the present time if the recording numbered `ticket` is still the latest.
  void stamp(uint64_t ticket);
  // Throws gxuErrorInvalidHandle when the event takes no time or was never recorded.
  void require_timed() const;
  // Nanoseconds on the steady clock of the latest recording, once it has finished.
  int64_t time() const;

  Device& device() const { return *device_; }

 private:
  mutable std::mutex mutex_;
  Device* device_ = nullptr;
  unsigned int flags_ = 0;
  Stream* stream_ = nullptr;
  uint64_t position_ = 0;
  uint64_t ticket_ = 0;
  int64_t time_ = 0;
  std::shared_ptr<Capture> capture_;
};

}  // namespace gxu::host
