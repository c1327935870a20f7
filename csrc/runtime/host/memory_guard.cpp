#include "memory_guard.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "error.h"
#include "fault.h"

namespace gxu::host {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kAlignment = 64;  // what gxuMalloc promises
constexpr int kFill = 0xff;
constexpr unsigned char kBehind = 0xa5;
// Freed blocks take addresses and an entry in the kernel's table of mappings (65530 of them) but no memory.
constexpr size_t kMaxFreedBlocks = 4096;

struct GuardedBlock {
  uintptr_t base;
  size_t size;          // bytes asked for
  uintptr_t mapping;    // with the guard pages
  size_t mapped_bytes;  //
  bool freed = false;
};

struct GuardedBlocks {
  std::mutex mutex;
  std::map<uintptr_t, GuardedBlock> by_mapping;
  std::deque<uintptr_t> freed;  // mappings, oldest first
};

// Leaked on purpose: memory may be freed while static destructors run.
GuardedBlocks& guarded_blocks() {
  static GuardedBlocks* instance = new GuardedBlocks;
  return *instance;
}

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The bytes between the end of what was asked for and the guard page.
unsigned char* behind(const GuardedBlock& block) { return reinterpret_cast<unsigned char*>(block.base + block.size); }
size_t bytes_behind(const GuardedBlock& block) { return round_up(block.size, kAlignment) - block.size; }

std::string block_text(const GuardedBlock& block) {
  return format_text("the block of %zu bytes at %p%s", block.size, reinterpret_cast<void*>(block.base),
                     block.freed ? ", which was freed" : "");
}

void check_bytes_behind(const GuardedBlock& block) {
  for (size_t offset = 0; offset < bytes_behind(block); ++offset) {
    if (behind(block)[offset] != kBehind) {
      std::fprintf(stderr, "GXU_MEMORY_GUARD: something was written %zu bytes past the end of %s\n", offset,
                   block_text(block).c_str());
      std::abort();
    }
  }
}

}  // namespace

bool guards_memory() {
  static const bool guards = [] {
    const char* text = std::getenv("GXU_MEMORY_GUARD");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return guards;
}

void* take_guarded_block(size_t size) {
  install_fault_handlers();
  if (size > SIZE_MAX / 2) return nullptr;
  const size_t accessible = round_up(size, kPageBytes);
  const size_t mapped_bytes = accessible + 2 * kPageBytes;
  void* mapped = mmap(nullptr, mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const uintptr_t first = reinterpret_cast<uintptr_t>(mapped) + kPageBytes;
  if (mprotect(reinterpret_cast<void*>(first), accessible, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, mapped_bytes);
    return nullptr;
  }
  const uintptr_t base = first + accessible - round_up(size, kAlignment);
  const GuardedBlock block{base, size, reinterpret_cast<uintptr_t>(mapped), mapped_bytes};
  std::memset(reinterpret_cast<void*>(first), kFill, accessible);
  std::memset(behind(block), kBehind, bytes_behind(block));
  GuardedBlocks& all = guarded_blocks();
  std::lock_guard lock(all.mutex);
  all.by_mapping.emplace(block.mapping, block);
  return reinterpret_cast<void*>(base);
}

void return_guarded_block(void* pointer) {
  GuardedBlocks& all = guarded_blocks();
  std::lock_guard lock(all.mutex);
  GuardedBlock& block = std::prev(all.by_mapping.upper_bound(reinterpret_cast<uintptr_t>(pointer)))->second;
  check_bytes_behind(block);
  block.freed = true;
  void* mapping = reinterpret_cast<void*>(block.mapping);
  madvise(mapping, block.mapped_bytes, MADV_DONTNEED);
  mprotect(mapping, block.mapped_bytes, PROT_NONE);
  all.freed.push_back(block.mapping);
  if (all.freed.size() > kMaxFreedBlocks) {
    const auto oldest = all.by_mapping.find(all.freed.front());
    munmap(reinterpret_cast<void*>(oldest->second.mapping), oldest->second.mapped_bytes);
    all.by_mapping.erase(oldest);
    all.freed.pop_front();
  }
}

std::string describe_guarded_address(const void* pointer, bool in_signal_handler) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  GuardedBlocks& all = guarded_blocks();
  std::unique_lock lock(all.mutex, std::defer_lock);
  if (!in_signal_handler) {
    lock.lock();
  } else if (!lock.try_lock()) {
    return "";
  }
  const auto next = all.by_mapping.upper_bound(address);
  if (next == all.by_mapping.begin()) return "";
  const GuardedBlock& block = std::prev(next)->second;
  if (address - block.mapping >= block.mapped_bytes) return "";
  const std::string text = block_text(block);
  if (address < block.base) return format_text("%zu bytes before %s", block.base - address, text.c_str());
  if (address - block.base < block.size) return format_text("byte %zu of %s", address - block.base, text.c_str());
  return format_text("%zu bytes past the end of %s", address - block.base - block.size, text.c_str());
}

}  // namespace gxu::host
