// Device memory that several processes map.
#pragma once

namespace gxu::host {

// Forgets the handle of the allocation at `base`, where it has one: the allocation is being freed.
void stop_sharing(const void* base);

}  // namespace gxu::host
