// GXU_MEMORY_GUARD=1: device memory that faults on every access outside of it.
//
// An allocation ends where a page begins that nothing may access, up to the 63 bytes that its alignment takes; those
// are checked when it is freed. It starts behind such a page, filled with bytes 0xff (a NaN in every floating-point
// type). Freed allocations stay inaccessible at their addresses as long as there are not too many of them.
#pragma once

#include <cstddef>
#include <string>

namespace gxu::host {

// Whether the environment asks for it.
bool guards_memory();

// `size` bytes, aligned to 64; nullptr where the system gives none.
void* take_guarded_block(size_t size);
// Ends the process where the bytes behind the block were written to.
void return_guarded_block(void* block);

// Where `address` lies, seen from the block that it is in or next to: "4 bytes past the end of the block of 400 bytes
// at 0x..."; empty where there is none. Waits for no lock where `in_signal_handler`.
std::string describe_guarded_address(const void* address, bool in_signal_handler);

}  // namespace gxu::host
