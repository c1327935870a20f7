// Streams: PyTorch's (id, device) pairs over the runtime's handles. The id of a stream is its handle; id 0 is the
// default stream of its device.
#pragma once

#include <c10/core/Stream.h>

#include "device.h"

namespace gxu {

inline gxuStream_t native_stream(c10::StreamId id) { return reinterpret_cast<gxuStream_t>(id); }

c10::Stream default_stream(c10::DeviceIndex device);
// The id of this thread's current stream on `device`.
c10::StreamId current_stream_id(c10::DeviceIndex device);
c10::Stream current_stream(c10::DeviceIndex device);
// Makes `stream` this thread's current stream on its device and returns the previous one.
c10::Stream exchange_stream(c10::Stream stream);
// The next stream of the device's pool for a priority: 0, or negative for streams that go first, clamped to the range
// that the runtime has. Pool streams live as long as the process and are handed out in turn.
c10::Stream stream_from_pool(c10::DeviceIndex device, int priority);
// The priority with which a pool stream was made; 0 for others.
int stream_priority(c10::DeviceIndex device, c10::StreamId id);
// A stream that somebody else created and keeps alive.
c10::Stream external_stream(gxuStream_t stream, c10::DeviceIndex device);

bool query_stream(c10::DeviceIndex device, c10::StreamId id);
void synchronize_stream(c10::DeviceIndex device, c10::StreamId id);

}  // namespace gxu
