#include "stream.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "device_name.h"
#include "graph_capture.h"
#include "thread_state.h"

namespace gxu {
namespace {

constexpr int kStreamsPerPool = 32;
constexpr int kMaxPriorities = 8;

thread_local std::array<c10::StreamId, kMaxDevices> thread_streams{};

// The range of priorities as numbers from 0, the least, upwards: 0 and 1 for a range from 0 to -1.
int num_priorities(c10::DeviceIndex device) {
  const DeviceScope scope(device);
  int least = 0;
  int greatest = 0;
  GXU_CALL(gxuStreamGetPriorityRange, &least, &greatest);
  return std::clamp(least - greatest + 1, 1, kMaxPriorities);
}

// Streams of one device and one priority, created when they are first handed out.
class StreamPool {
 public:
  gxuStream_t next(c10::DeviceIndex device, int priority) {
    std::lock_guard<std::mutex> lock(mutex_);
    gxuStream_t& stream = streams_[next_];
    next_ = (next_ + 1) % kStreamsPerPool;
    if (stream == nullptr) {
      const DeviceScope scope(device);
      GXU_CALL(gxuStreamCreate, &stream, gxuStreamNonBlocking, priority);
    }
    return stream;
  }

  bool has(gxuStream_t stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::find(streams_.begin(), streams_.end(), stream) != streams_.end();
  }

 private:
  std::mutex mutex_;
  std::array<gxuStream_t, kStreamsPerPool> streams_{};
  int next_ = 0;
};

using DevicePools = std::array<StreamPool, kMaxPriorities>;

DevicePools& stream_pools(c10::DeviceIndex device) {
  static auto* pools = new std::array<DevicePools, kMaxDevices>;
  return (*pools)[device];
}

c10::Stream make_stream(c10::StreamId id, c10::DeviceIndex device) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kGxu, device), id);
}

}  // namespace

c10::Stream default_stream(c10::DeviceIndex device) { return make_stream(0, resolve_device_index(device)); }

c10::StreamId current_stream_id(c10::DeviceIndex device) {
  const bool is_default = (thread_state.other_streams >> device & 1) == 0;
  return C10_LIKELY(is_default) ? 0 : thread_streams[device];
}

c10::Stream current_stream(c10::DeviceIndex device) {
  device = device < 0 ? current_device() : device;
  return make_stream(current_stream_id(device), device);
}

c10::Stream exchange_stream(c10::Stream stream) {
  TORCH_CHECK(stream.device_type() == kGxu, "expected a stream of ", device_name(), ", but got one of ",
              stream.device());
  const auto device = resolve_device_index(stream.device_index());
  const c10::StreamId previous = current_stream_id(device);
  thread_streams[device] = stream.id();
  const uint64_t bit = uint64_t{1} << device;
  thread_state.other_streams = stream.id() != 0 ? thread_state.other_streams | bit : thread_state.other_streams & ~bit;
  return make_stream(previous, device);
}

c10::Stream stream_from_pool(c10::DeviceIndex device, int priority) {
  device = resolve_device_index(device);
  const int level = std::clamp(-priority, 0, num_priorities(device) - 1);
  return external_stream(stream_pools(device)[level].next(device, -level), device);
}

int stream_priority(c10::DeviceIndex device, c10::StreamId id) {
  DevicePools& pools = stream_pools(resolve_device_index(device));
  for (int level = 1; id != 0 && level < kMaxPriorities; ++level) {
    if (pools[level].has(native_stream(id))) {
      return -level;
    }
  }
  return 0;
}

c10::Stream external_stream(gxuStream_t stream, c10::DeviceIndex device) {
  return make_stream(reinterpret_cast<c10::StreamId>(stream), resolve_device_index(device));
}

bool query_stream(c10::DeviceIndex device, c10::StreamId id) {
  ensure_initialized();
  forbid_in_capture(device, "A query of a stream");
  const DeviceScope scope(device);
  const gxuError_t error = runtime().gxuStreamQuery(native_stream(id));
  if (error == gxuErrorNotReady) {
    return false;
  }
  check(error, "gxuStreamQuery");
  return true;
}

void synchronize_stream(c10::DeviceIndex device, c10::StreamId id) {
  ensure_initialized();
  forbid_in_capture(device, "An operation that waits for the device (such as reading a value on the CPU)");
  const DeviceScope scope(device);
  GXU_CALL(gxuStreamSynchronize, native_stream(id));
  throw_asynchronous_error(device);
}

}  // namespace gxu
