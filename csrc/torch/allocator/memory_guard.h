// GXU_MEMORY_GUARD=1: the runtime puts pages that nothing may access around every allocation and keeps freed ones
// inaccessible, and the allocator asks for a segment of its own for every block, of exactly the size that was asked
// for.
#pragma once

#include <cstdlib>
#include <cstring>

namespace gxu {

inline bool guards_memory() {
  static const bool guards = [] {
    const char* text = std::getenv("GXU_MEMORY_GUARD");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return guards;
}

}  // namespace gxu
