// What was recorded while a profiler ran.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "../runtime/gxu_activity.h"

namespace gxu {

// The operator and the record_function range that a thread was in: correlation ids of the profiler, 0 for none.
struct HostContext {
  uint64_t op = 0;
  uint64_t range = 0;
};

struct RuntimeCallRecord {
  uint64_t id;  // what the activities that it enqueued carry
  const char* name;
  int64_t start, end;  // nanoseconds since 1970
  int32_t thread;      // of the system
  HostContext context;
};

struct DeviceRecord {
  gxuActivityKind kind;
  c10::DeviceIndex device;
  uint64_t stream;
  int64_t start, end;  // nanoseconds since 1970
  uint64_t call;       // of the runtime that enqueued it; 0: the thread did the work itself, or nobody knows
  std::string name;    // of the kernel or operator
  std::array<uint32_t, 3> grid;
  uint64_t bytes;
  gxuMemcpyKind copy_kind;
  HostContext context;  // where `call` is 0
};

struct ProfilerRecords {
  std::vector<RuntimeCallRecord> calls;
  std::vector<DeviceRecord> activities;
};

// Begins to record, without what was recorded before. Starts the runtime; throws where there is none.
void start_recording();

// Waits for the work that is queued, stops, and hands over what was recorded.
ProfilerRecords stop_recording();

// The calling thread enters and leaves an operator or a range of record_function, known by its correlation id.
void push_operator(uint64_t id);
void pop_operator();
void push_range(uint64_t id);
void pop_range();

}  // namespace gxu
