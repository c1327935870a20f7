#include "memory_check.h"

#include <cstdlib>
#include <cstring>

#include "runtime.h"

namespace gxu {

bool checks_memory() {
  static const bool checks = [] {
    const char* text = std::getenv("GXU_SANITIZE");
    return text != nullptr && std::strcmp(text, "1") == 0 && runtime().gxuMemoryCheckAddBlock != nullptr &&
           runtime().gxuMemoryCheckRemoveBlock != nullptr && runtime().gxuMemoryCheckAllow != nullptr;
  }();
  return checks;
}

void add_checked_block(void* pointer, size_t nbytes) {
  if (C10_UNLIKELY(checks_memory())) {
    GXU_CALL(gxuMemoryCheckAddBlock, pointer, nbytes);
  }
}

void remove_checked_block(void* pointer) {
  if (C10_UNLIKELY(checks_memory())) {
    runtime().gxuMemoryCheckRemoveBlock(pointer);
  }
}

void allow_storage(const c10::Storage& storage) {
  if (C10_UNLIKELY(checks_memory()) && storage.nbytes() > 0) {
    GXU_CALL(gxuMemoryCheckAllow, storage.data(), storage.nbytes());
  }
}

}  // namespace gxu
