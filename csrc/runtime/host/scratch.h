// Per-thread scratch memory for kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gxu::host {

// At least `size` bytes, 64-byte aligned, that belong to the calling thread until its next call. Grown on demand and
// kept until the thread ends. nullptr for size 0; throws std::bad_alloc when the system has no memory left.
void* thread_scratch(size_t size);

// Bytes that all threads hold at the moment.
uint64_t scratch_bytes_in_use();

}  // namespace gxu::host
