// torch.accelerator.Graph on this device.
#pragma once

namespace gxu {

// Tells PyTorch how graphs are captured and replayed. Call it once the device has its name.
void register_graphs();

}  // namespace gxu
