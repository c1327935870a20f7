// What a stream's queue holds: one Record for each piece of work.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <variant>

#include "../gxu_runtime.h"
#include "activity.h"
#include "gxu_host_kernel.h"

namespace gxu::host {

class CheckedMemory;
class Device;
class Event;
class Stream;
struct Function;
struct GraphBody;

// The values of a kernel's parameters, one 8-byte slot each. Usual kernels fit without allocating.
class KernelParams {
 public:
  static constexpr uint32_t kInline = 32;

  explicit KernelParams(uint32_t count) : count_(count) {
    if (count > kInline) overflow_ = std::make_unique<uint64_t[]>(count);
  }
  KernelParams(KernelParams&& other) noexcept : count_(other.count_), overflow_(std::move(other.overflow_)) {
    if (count_ <= kInline) std::memcpy(inline_, other.inline_, count_ * sizeof(uint64_t));
  }
  KernelParams& operator=(KernelParams&&) = delete;

  uint64_t* data() { return overflow_ ? overflow_.get() : inline_; }
  const uint64_t* data() const { return overflow_ ? overflow_.get() : inline_; }

 private:
  uint32_t count_;
  std::unique_ptr<uint64_t[]> overflow_;
  uint64_t inline_[kInline];  // the first count_ are set
};

struct KernelLaunch {
  const Function* function;
  gxuHostGrid grid;
  int64_t programs;
  int threads;  // team size of the launching thread, for when an executor thread runs the kernel
  KernelParams params;
  std::shared_ptr<const CheckedMemory> memory;  // what the kernel may access; null: anything
  uint64_t correlation = current_correlation();
};

struct Copy {
  void* dst;
  const void* src;
  size_t size;
  uint64_t correlation = current_correlation();
};

struct Fill {
  void* dst;
  int value;
  size_t size;
  uint64_t correlation = current_correlation();
};

struct HostCall {
  gxuHostFn_t function;
  void* user_data;
};

// Waits until `stream` has finished its first `position` records.
struct Wait {
  Stream* stream;
  uint64_t position;
};

// Stores the time in `event` unless it was recorded again or destroyed after the record numbered `ticket`.
struct Stamp {
  Event* event;
  uint64_t ticket;
};

struct Replay {
  std::shared_ptr<const GraphBody> graph;
  uint64_t correlation = current_correlation();
};

using Record = std::variant<std::monostate, KernelLaunch, Copy, Fill, HostCall, Wait, Stamp, Replay>;

// Runs one record of `stream` on the calling thread and its team.
void execute(const Record& record, Stream& stream);

}  // namespace gxu::host
