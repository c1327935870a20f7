// Pools: the free blocks of one kind of request, for all streams, and the memory that graphs and users keep apart.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "free_blocks.h"

namespace gxu {

struct PrivatePool;

// Requests up to this many bytes are cut from segments of 2 MiB, and a larger block is cut when more than this would be
// left of it. CUDA's allocator has 1 MiB. But weights of 576 KiB leave a sixth of such a segment empty: with 1 MiB the
// first training steps of the models of `bench models` reserve up to a seventh more (docs/memory.md).
constexpr size_t kSmallBytes = size_t{256} << 10;

// The free blocks of one device for requests up to kSmallBytes ("small") or above.
//
// Free small blocks are joined with their free neighbours only when a request finds none of exactly its size, or
// someone looks: programs ask for the same sizes again and again, and a block that kept its size needs no cutting.
class BlockPool {
 public:
  BlockPool(bool is_small, PrivatePool* owner) : is_small_(is_small), owner_(owner) {}
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  bool is_small() const { return is_small_; }
  // The private pool that it is part of; nullptr: the device's own.
  PrivatePool* owner() const { return owner_; }
  c10::CachingAllocator::StatType stat_type() const {
    return is_small_ ? c10::CachingAllocator::StatType::SMALL_POOL : c10::CachingAllocator::StatType::LARGE_POOL;
  }

  void insert(Block* block) { free_blocks(block->stream).insert(block); }
  void erase(Block* block) { free_blocks(block->stream).erase(block); }
  // The smallest block of the stream with at least `size` bytes, or nullptr. It stays in the pool.
  Block* find(size_t size, c10::StreamId stream) { return free_blocks(stream).find(size); }

  // Blocks that may have a free neighbour: of any two free neighbours, one is here.
  void add_unmerged(Block* block) {
    if (!block->is_unmerged) {
      block->is_unmerged = true;
      unmerged_.push_back(block);
    }
  }
  std::vector<Block*> take_unmerged() { return std::exchange(unmerged_, {}); }
  bool has_unmerged() const { return !unmerged_.empty(); }

  template <typename Function>
  void for_each(Function function) const {
    for (const auto& [stream, blocks] : streams_) {
      blocks->for_each(function);
    }
  }

  // Forgets streams without free blocks.
  void trim() {
    last_blocks_ = nullptr;
    std::erase_if(streams_, [](const auto& entry) { return entry.second->empty(); });
  }

 private:
  FreeBlocks& free_blocks(c10::StreamId stream) {
    if (C10_LIKELY(last_blocks_ != nullptr && last_stream_ == stream)) {
      return *last_blocks_;
    }
    auto& blocks = streams_[stream];
    if (blocks == nullptr) {
      blocks = std::make_unique<FreeBlocks>();
    }
    last_stream_ = stream;
    last_blocks_ = blocks.get();
    return *blocks;
  }

  const bool is_small_;
  PrivatePool* const owner_;
  std::unordered_map<c10::StreamId, std::unique_ptr<FreeBlocks>> streams_;
  c10::StreamId last_stream_ = 0;
  FreeBlocks* last_blocks_ = nullptr;
  std::vector<Block*> unmerged_;
};

// Memory that only requests directed to it use: that of captured graphs, whose replays write to the same addresses, and
// of torch.gxu.MemPool.
struct PrivatePool {
  explicit PrivatePool(c10::MempoolId_t pool_id) : id(pool_id) {}

  const c10::MempoolId_t id;
  int use_count = 0;        // graphs and pool objects; at 0 its segments may go back to the runtime
  bool use_on_oom = false;  // serves any request before memory runs out
  bool no_split = false;    // gives a block to one request only
  size_t num_segments = 0;
  BlockPool small{true, this};
  BlockPool large{false, this};
};

}  // namespace gxu
