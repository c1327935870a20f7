// Handles that can be checked: a handle is an index and a generation, not an address, so that a destroyed, foreign or
// made-up handle is found out instead of being dereferenced.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "error.h"

namespace gxu::engine {

enum class HandleKind : uint64_t { kStream = 1, kEvent, kModule, kFunction, kGraph, kGraphExec };

// Throws gxuErrorInvalidHandle.
[[noreturn]] void fail_not_live(HandleKind kind, const void* handle);

// Maps handles of type H (an opaque pointer type of gxu_runtime.h) to objects. find() takes no lock.
//
// Bits of a handle: 56-62 kind, 24-55 generation, 0-23 index.
template <typename H, typename T, HandleKind kKind>
class HandleTable {
 public:
  H insert(T* object) {
    std::lock_guard lock(mutex_);
    uint32_t index;
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      if (size_ == kChunks * kChunkSize) fail(gxuErrorOutOfMemory, "more than %u live handles of one kind", size_);
      index = size_;
      std::atomic<Slot*>& chunk = chunks_[index / kChunkSize];
      if (chunk.load(std::memory_order_relaxed) == nullptr) {
        chunk.store(new Slot[kChunkSize], std::memory_order_release);
      }
      ++size_;
    }
    Slot& slot = *slot_at(index);
    slot.object.store(object, std::memory_order_release);
    return encode(index, slot.generation.load(std::memory_order_relaxed));
  }

  // The live object behind `handle`, or nullptr.
  T* find(H handle) const noexcept {
    const uint64_t bits = reinterpret_cast<uint64_t>(handle);
    if (bits >> kKindShift != static_cast<uint64_t>(kKind)) return nullptr;
    const Slot* slot = slot_at(static_cast<uint32_t>(bits & kIndexMask));
    if (slot == nullptr) return nullptr;
    if (slot->generation.load(std::memory_order_acquire) != static_cast<uint32_t>(bits >> kGenerationShift)) {
      return nullptr;
    }
    return slot->object.load(std::memory_order_acquire);
  }

  // As find(), but throws gxuErrorInvalidHandle where there is no live object.
  T& get(H handle) const {
    T* object = find(handle);
    if (object == nullptr) [[unlikely]] {
      fail_not_live(kKind, handle);
    }
    return *object;
  }

  // Ends the handle's life and returns its object, or nullptr when it was not live (so only one caller gets it).
  T* remove(H handle) {
    std::lock_guard lock(mutex_);
    T* object = find(handle);
    if (object == nullptr) return nullptr;
    const uint32_t index = static_cast<uint32_t>(reinterpret_cast<uint64_t>(handle) & kIndexMask);
    Slot& slot = *slot_at(index);
    slot.generation.fetch_add(1, std::memory_order_acq_rel);
    slot.object.store(nullptr, std::memory_order_release);
    free_.push_back(index);
    return object;
  }

  // As remove(), but throws gxuErrorInvalidHandle where there is no live object.
  T* take(H handle) {
    T* object = remove(handle);
    if (object == nullptr) fail_not_live(kKind, handle);
    return object;
  }

 private:
  struct Slot {
    std::atomic<T*> object{nullptr};
    std::atomic<uint32_t> generation{0};
  };

  static constexpr uint32_t kChunkSize = 1024;
  static constexpr uint32_t kChunks = 1024;
  static constexpr int kKindShift = 56;
  static constexpr int kGenerationShift = 24;
  static constexpr uint64_t kIndexMask = (uint64_t{1} << kGenerationShift) - 1;

  Slot* slot_at(uint32_t index) const noexcept {
    if (index >= kChunks * kChunkSize) return nullptr;
    Slot* chunk = chunks_[index / kChunkSize].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk + index % kChunkSize;
  }

  static H encode(uint32_t index, uint32_t generation) {
    const uint64_t bits = static_cast<uint64_t>(kKind) << kKindShift |
                          static_cast<uint64_t>(generation) << kGenerationShift | static_cast<uint64_t>(index);
    return reinterpret_cast<H>(bits);
  }

  std::mutex mutex_;
  std::array<std::atomic<Slot*>, kChunks> chunks_{};
  std::vector<uint32_t> free_;
  uint32_t size_ = 0;
};

}  // namespace gxu::engine
