#include "scratch.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace gxu::host {
namespace {

std::atomic<uint64_t> total_bytes{0};

// Trivial, so that a call made while the thread's own destructors run still finds a valid object.
struct Scratch {
  void* memory;
  size_t size;
};

thread_local Scratch scratch = {nullptr, 0};

void release_scratch() {
  std::free(scratch.memory);
  total_bytes.fetch_sub(scratch.size, std::memory_order_relaxed);
  scratch = {nullptr, 0};
}

struct ScratchReaper {
  ~ScratchReaper() { release_scratch(); }
};

}  // namespace

void* thread_scratch(size_t size) {
  if (size > scratch.size) {
    thread_local ScratchReaper reaper;
    (void)reaper;
    release_scratch();
    constexpr size_t kStep = 4096;  // a power of two and a multiple of 64
    const size_t rounded = (size + kStep - 1) / kStep * kStep;
    scratch.memory = std::aligned_alloc(64, rounded);
    if (scratch.memory == nullptr) throw std::bad_alloc();
    scratch.size = rounded;
    total_bytes.fetch_add(rounded, std::memory_order_relaxed);
  }
  return size == 0 ? nullptr : scratch.memory;
}

uint64_t scratch_bytes_in_use() { return total_bytes.load(std::memory_order_relaxed); }

}  // namespace gxu::host
