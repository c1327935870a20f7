// Philox 4x32-10, the counter-based random number generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC'11): a block of four words is a function of a key and of the block's number, so that any thread can
// compute any part of a sequence.
#pragma once

#include <cstdint>

namespace gxu {

// Words come in groups of 16 blocks: first the first words of the 16 blocks, then the second ones, and so on. This
// order is part of what a seed means, and independent of the width of the machine's vectors.
constexpr int64_t kPhiloxGroupBlocks = 16;
constexpr int64_t kPhiloxGroupWords = 64;

// Where a sequence begins. The upper half of the 128-bit counter is zero.
struct PhiloxKey {
  uint64_t seed;
  uint64_t block;
};

// Writes the words of `groups` groups.
void philox_words(PhiloxKey key, uint32_t* words, int64_t groups);

}  // namespace gxu
