// GXU_SANITIZE=1: tells the runtime which memory kernels may access, where the runtime checks it.
#pragma once

#include <c10/core/Storage.h>

namespace gxu {

// Bytes that the allocator keeps free behind each block while accesses are checked, so that no two blocks touch.
constexpr size_t kCheckedGap = 512;

// Bytes of freed blocks that the allocator gives out as late as possible while accesses are checked: a kernel that uses
// a tensor after its end should not find another in its place.
constexpr size_t kCheckedQuarantine = size_t{256} << 20;

// Whether accesses are checked. Loads the runtime.
bool checks_memory();

// A block that the caching allocator gave out, and its end.
void add_checked_block(void* pointer, size_t nbytes);
void remove_checked_block(void* pointer);

// Memory that the calling thread passes to its next launch.
void allow_storage(const c10::Storage& storage);

}  // namespace gxu
