// The free blocks of one pool and one stream, by size.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <set>

#include "block.h"

namespace gxu {

// Finds the smallest block that is large enough. Up to 2 MiB there is a list for each multiple of 512 bytes and a
// bitmap of the lists that are not empty, so that insert, erase and find take a few instructions and no memory; the
// block that was freed last, which the processor's caches may still hold, is found first. Larger blocks are in a tree;
// of equal ones, that with the lowest address is found first.
class FreeBlocks {
 public:
  FreeBlocks() = default;
  FreeBlocks(const FreeBlocks&) = delete;
  FreeBlocks& operator=(const FreeBlocks&) = delete;

  void insert(Block* block);
  void erase(Block* block);
  // The smallest block of at least `size` bytes (a multiple of 512), or nullptr.
  Block* find(size_t size) const;
  bool empty() const { return summary_ == 0 && large_.empty(); }

  template <typename Function>
  void for_each(Function function) const {
    if (lists_ != nullptr) {
      for (Block* block : *lists_) {
        for (; block != nullptr; block = block->free_next) {
          function(block);
        }
      }
    }
    for (Block* block : large_) {
      function(block);
    }
  }

 private:
  static constexpr size_t kUnit = 512;
  static constexpr size_t kWords = 64;
  static constexpr size_t kLists = 64 * kWords;  // 512 bytes to 2 MiB

  struct BySize {
    using is_transparent = void;
    bool operator()(const Block* a, const Block* b) const {
      return a->size != b->size ? a->size < b->size : a->pointer < b->pointer;
    }
    bool operator()(const Block* block, size_t size) const { return block->size < size; }
  };

  static size_t list_index(size_t size) { return size / kUnit - 1; }

  std::unique_ptr<std::array<Block*, kLists>> lists_;
  std::array<uint64_t, kWords> occupied_{};  // a bit for each list that has a block
  uint64_t summary_ = 0;                     // a bit for each word of occupied_ that has one
  std::set<Block*, BySize> large_;
};

inline void FreeBlocks::insert(Block* block) {
  const size_t index = list_index(block->size);
  if (C10_UNLIKELY(index >= kLists)) {
    large_.insert(block);
    return;
  }
  if (C10_UNLIKELY(lists_ == nullptr)) {
    lists_ = std::make_unique<std::array<Block*, kLists>>();
  }
  Block*& head = (*lists_)[index];
  block->free_previous = nullptr;
  block->free_next = head;
  if (head != nullptr) {
    head->free_previous = block;
  }
  head = block;
  occupied_[index / 64] |= uint64_t{1} << index % 64;
  summary_ |= uint64_t{1} << index / 64;
}

inline void FreeBlocks::erase(Block* block) {
  const size_t index = list_index(block->size);
  if (C10_UNLIKELY(index >= kLists)) {
    large_.erase(block);
    return;
  }
  if (block->free_next != nullptr) {
    block->free_next->free_previous = block->free_previous;
  }
  if (block->free_previous != nullptr) {
    block->free_previous->free_next = block->free_next;
    return;
  }
  (*lists_)[index] = block->free_next;
  if (block->free_next == nullptr) {
    occupied_[index / 64] &= ~(uint64_t{1} << index % 64);
    if (occupied_[index / 64] == 0) {
      summary_ &= ~(uint64_t{1} << index / 64);
    }
  }
}

inline Block* FreeBlocks::find(size_t size) const {
  const size_t index = list_index(size);
  if (C10_LIKELY(index < kLists)) {
    size_t word = index / 64;
    uint64_t bits = occupied_[word] & ~uint64_t{0} << index % 64;
    if (bits == 0) {
      // Shifted twice: a shift by 64 would be undefined.
      const uint64_t words = summary_ & ~uint64_t{0} << word << 1;
      if (words != 0) {
        word = std::countr_zero(words);
        bits = occupied_[word];
      }
    }
    if (bits != 0) {
      return (*lists_)[word * 64 + std::countr_zero(bits)];
    }
  }
  const auto found = large_.lower_bound(size);
  return found != large_.end() ? *found : nullptr;
}

}  // namespace gxu
