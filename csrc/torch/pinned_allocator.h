// Pinned host memory: CPU memory that a stream copies to and from without holding up the caller.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>

namespace gxu {

c10::Allocator* pinned_allocator();
// True for pointers into memory of gxuMallocHost, from this allocator or another caller of the runtime.
bool is_pinned(const void* pointer);
// Keeps the memory behind `pointer` from being reused before what is now queued on `stream` has run.
void record_pinned_use(const void* pointer, c10::Stream stream);

}  // namespace gxu
