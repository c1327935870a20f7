// An engine's life: gxuInit, forks, exit.
#pragma once

namespace gxu::engine {

// Once per process: runs `start`, which finds the devices, and opens the engine's functions. A start that throws may be
// repeated. `stop` runs when the process exits.
void start_engine(void (*start)(), void (*stop)());

}  // namespace gxu::engine
