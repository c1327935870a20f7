// torch.accelerator.Graph on this device.
#pragma once

#include <c10/core/Stream.h>

#include <memory>

#include "torch_compat.h"

namespace gxu {

// Tells PyTorch how graphs are captured and replayed. Call it once the device has its name.
void register_graphs();

// A graph that nothing has been captured into. `keep_graph`: as torch.accelerator.Graph's.
std::unique_ptr<GraphImplInterface> make_graph(bool keep_graph);

// Whether work that is enqueued on `stream` becomes part of a graph; does not start the runtime.
bool is_stream_capturing(c10::Stream stream);

}  // namespace gxu
