// Events that several processes see, over host functions of the runtime's streams: any library has these.
#pragma once

#include <c10/core/Stream.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace gxu {

// A count of recordings and of those that their streams have reached, in memory that processes map. A handle names the
// file by its owner's process, which must be alive when another process opens it; who has it open keeps it.
//
// As with torch.cuda's, one process records at a time.
class SharedEvent : public std::enable_shared_from_this<SharedEvent> {
 public:
  static std::shared_ptr<SharedEvent> create();
  // Throws where the bytes are no handle, or the process that made it has ended.
  static std::shared_ptr<SharedEvent> open(const std::string& handle);
  SharedEvent(const SharedEvent&) = delete;
  ~SharedEvent();

  std::string handle() const;

  // The event stands for the stream's work so far.
  void record(c10::Stream stream);
  // Later work of the stream waits for the latest recording.
  void wait(c10::Stream stream);
  bool query() const;
  // Blocks until the latest recording is reached. Throws where the process that recorded it has ended before.
  void synchronize() const;

 private:
  struct State;
  struct Step;

  SharedEvent(int file, State* state) : file_(file), state_(state) {}

  static std::shared_ptr<SharedEvent> map(int file);
  static void reach(void* step);
  static void wait_in_stream(void* step);
  void enqueue(c10::Stream stream, uint32_t ticket, void (*function)(void*));
  // Returns false where the process that should reach `ticket` has ended.
  bool wait_for(uint32_t ticket) const;

  const int file_;
  State* const state_;
};

}  // namespace gxu
