// A block: a contiguous part of a segment, in use or free. A segment is one allocation of the runtime; its blocks form
// a list by address, and its first block's object lives as long as the segment.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace gxu {

class BlockPool;

enum class BlockState : uint8_t {
  kFree,       // in its pool
  kAllocated,  // belongs to a caller
  kPending,    // given back, but another stream may still use it
  kMerged,     // part of its left neighbour: only the object is left, in its pool's list of unmerged blocks
};

struct Block {
  void* pointer;
  size_t size;  // bytes
  BlockPool* pool;
  c10::DeviceIndex device;
  c10::StreamId stream;  // on which it is allocated, and on which alone it may be allocated again
  BlockState state = BlockState::kFree;
  bool is_unmerged = false;                      // in its pool's list of blocks that may have a free neighbour
  int pending_events = 0;                        // of other streams, after it was given back
  size_t requested = 0;                          // bytes that the caller asked for
  Block* previous = nullptr;                     // the neighbours in the segment
  Block* next = nullptr;                         //
  Block* free_previous = nullptr;                // the neighbours in a list of free blocks
  Block* free_next = nullptr;                    //
  uint64_t freed_at = 0;                         // the device's count of segment requests when it became free
  std::vector<c10::StreamId> foreign_streams{};  // other streams that use it, from recordStream
  std::shared_ptr<c10::GatheredContext> allocation_context{};  // where it was allocated, while this is recorded
  std::shared_ptr<c10::GatheredContext> segment_context{};     // in a first block: where the segment was

  bool is_split() const { return previous != nullptr || next != nullptr; }
};

}  // namespace gxu
