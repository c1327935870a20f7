// Counting, under the names of c10::CachingDeviceAllocator::DeviceStats.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include "../torch_compat.h"

namespace gxu {

using c10::CachingAllocator::StatArray;
using c10::CachingAllocator::StatType;

// Counts for one pool ("small_pool" or "large_pool") and for both together ("all").
inline void increase(StatArray& stats, StatType pool, size_t amount) {
  stats[static_cast<size_t>(StatType::AGGREGATE)].increase(amount);
  stats[static_cast<size_t>(pool)].increase(amount);
}

inline void decrease(StatArray& stats, StatType pool, size_t amount) {
  stats[static_cast<size_t>(StatType::AGGREGATE)].decrease(amount);
  stats[static_cast<size_t>(pool)].decrease(amount);
}

// By a number of either sign.
inline void change(StatArray& stats, StatType pool, int64_t amount) {
  if (amount > 0) {
    increase(stats, pool, static_cast<size_t>(amount));
  } else if (amount < 0) {
    decrease(stats, pool, static_cast<size_t>(-amount));
  }
}

inline size_t current(const StatArray& stats) {
  return static_cast<size_t>(stats[static_cast<size_t>(StatType::AGGREGATE)].current);
}

// Everything allocated and freed so far counts as 0 from here on, and so do the events.
void reset_accumulated(DeviceStats& stats);
// Peaks start again at the current values.
void reset_peak(DeviceStats& stats);

}  // namespace gxu
