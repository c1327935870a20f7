// A range of numbers that the threads of a team work through together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace gxu::host {

// Each thread has a share of the range to itself, the same one whenever a team of the same size goes through a range of
// the same size, and helps with the others' shares when it is done with its own. So where kernels follow each other
// over the same memory, a thread finds in its own core's caches what it left there, and a thread that is late or has
// the longer programs is not waited for.
class SharedRange {
 public:
  // 0 to `size` for `threads` threads, in pieces of at most `piece` numbers.
  SharedRange(int64_t size, int64_t piece, int threads)
      : size_(size), piece_(piece), shares_(std::clamp(threads, 1, kMaxShares)) {
    for (int share = 0; share < shares_; ++share) share_[share].next.store(begin(share), std::memory_order_relaxed);
  }

  // The next piece for the thread with this index, as [begin, end); false when nothing is left anywhere.
  bool next(int index, int64_t& begin, int64_t& end) {
    for (int i = 0; i < shares_; ++i) {
      const int share = (index + i) % shares_;
      const int64_t share_end = this->begin(share + 1);
      // The look before the addition keeps threads that find nothing from moving the cache line about.
      std::atomic<int64_t>& next = share_[share].next;
      if (next.load(std::memory_order_relaxed) >= share_end) continue;
      begin = next.fetch_add(piece_, std::memory_order_relaxed);
      end = std::min(begin + piece_, share_end);
      if (begin < share_end) return true;
    }
    return false;
  }

 private:
  static constexpr int kMaxShares = 64;

  struct alignas(64) Share {  // a cache line each
    std::atomic<int64_t> next;
  };

  // Where a share begins; the last one ends at begin(shares_). Without products that could overflow.
  int64_t begin(int share) const {
    const int64_t each = size_ / shares_;
    return each * share + std::min<int64_t>(share, size_ % shares_);
  }

  const int64_t size_;
  const int64_t piece_;
  const int shares_;
  Share share_[kMaxShares];
};

}  // namespace gxu::host
