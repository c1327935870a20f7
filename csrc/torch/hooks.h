#pragma once

namespace gxu {

// Tells PyTorch that this process has an accelerator called gxu. Once, before any tensor operation.
void register_hooks();

}  // namespace gxu
