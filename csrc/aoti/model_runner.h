// AOTInductor's models for this device.
#pragma once

namespace torch::inductor {

// Tells PyTorch how models that were compiled for the device are run. Call it once the device has its name.
void register_model_runner();

}  // namespace torch::inductor
