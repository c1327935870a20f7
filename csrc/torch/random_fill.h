// Filling memory with random numbers on the CPU's threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "philox.h"

namespace gxu {

// Groups of words that stay in the first-level cache between their making and their use.
constexpr int64_t kRandomChunk = 16;

inline int64_t philox_groups(int64_t count, int64_t per_group) { return (count + per_group - 1) / per_group; }

// Calls `use(words, first group, groups)` for all groups of words behind `key`, from many threads.
template <typename Use>
void for_each_random_chunk(PhiloxKey key, int64_t groups, const Use& use) {
  constexpr int64_t kGrain = 512;  // groups, 32768 words: as many elements as ATen gives one thread
  at::parallel_for(0, groups, kGrain, [&](int64_t begin, int64_t end) {
    alignas(64) uint32_t words[kRandomChunk * kPhiloxGroupWords];
    for (int64_t group = begin; group < end; group += kRandomChunk) {
      const int64_t count = std::min(kRandomChunk, end - group);
      philox_words({key.seed, key.block + static_cast<uint64_t>(group * kPhiloxGroupBlocks)}, words, count);
      use(static_cast<const uint32_t*>(words), group, count);
    }
  });
}

// Fills out[0, count), where `convert(words, values, groups)` makes `per_group` values of each group.
template <int64_t per_group, typename T, typename Convert>
void fill_random(T* out, int64_t count, PhiloxKey key, const Convert& convert) {
  const int64_t full_groups = count / per_group;
  for_each_random_chunk(
      key, philox_groups(count, per_group), [&](const uint32_t* words, int64_t group, int64_t groups) {
        const int64_t full = std::min(groups, full_groups - group);
        if (full > 0) {
          convert(words, out + group * per_group, full);
        }
        if (full < groups) {  // the last group has fewer elements than values
          alignas(64) T values[per_group];
          convert(words + full * kPhiloxGroupWords, values, int64_t{1});
          std::memcpy(out + full_groups * per_group, values, static_cast<size_t>(count % per_group) * sizeof(T));
        }
      });
}

// The first `count` 64-bit numbers of groups of words, 32 a group: `use(index, number)`.
template <typename Use>
void for_each_long_word(const uint32_t* words, int64_t count, const Use& use) {
  for (int64_t first = 0; first < count; first += kPhiloxGroupBlocks) {
    const uint32_t* low = words + 2 * first;
    const int64_t numbers = std::min(kPhiloxGroupBlocks, count - first);
    for (int64_t i = 0; i < numbers; ++i) {
      use(first + i, low[i] | static_cast<uint64_t>(low[kPhiloxGroupBlocks + i]) << 32);
    }
  }
}

}  // namespace gxu
