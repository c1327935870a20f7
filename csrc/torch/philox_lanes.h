// One version of philox_words for one instruction set: philox.cpp includes this file once for each, in a namespace of
// its own and below the pragma that selects the instructions.
//
// Blocks 2i and 2i + 1 of a vector are in its 64-bit lane i of the arrays `even` and `odd`. The product reads the lower
// half of each lane alone, so what gathers in the upper halves does no harm.
//
// GXU_VECTOR_BYTES: width of a vector; GXU_VECTOR_PRODUCT(a, b): 64-bit products of the lower halves of the lanes.

using Lanes = uint64_t __attribute__((vector_size(GXU_VECTOR_BYTES)));
using Words = uint32_t __attribute__((vector_size(GXU_VECTOR_BYTES), aligned(4), may_alias));

constexpr int64_t kVectorBlocks = GXU_VECTOR_BYTES / 4;
constexpr int64_t kVectorsPerGroup = kPhiloxGroupBlocks / kVectorBlocks;

struct Counters {
  Lanes c0, c1, c2, c3;

  void advance(Lanes key0, Lanes key1) {
    const Lanes product0 = GXU_VECTOR_PRODUCT(c0, Lanes{} + kMultiplier0);
    const Lanes product1 = GXU_VECTOR_PRODUCT(c2, Lanes{} + kMultiplier1);
    c0 = (product1 >> 32) ^ c1 ^ key0;
    c2 = (product0 >> 32) ^ c3 ^ key1;
    c1 = product1;
    c3 = product0;
  }
};

static void store_words(uint32_t* words, Lanes even, Lanes odd) {
  *reinterpret_cast<Words*>(words) = reinterpret_cast<Words>((even & (Lanes{} + 0xFFFFFFFFu)) | (odd << 32));
}

static void philox_words(PhiloxKey key, uint32_t* words, int64_t groups) {
  Lanes even_blocks;
  for (int64_t lane = 0; lane < kVectorBlocks / 2; ++lane) {
    even_blocks[lane] = static_cast<uint64_t>(2 * lane);
  }
  for (int64_t vector = 0; vector < groups * kVectorsPerGroup; ++vector) {
    const Lanes block = even_blocks + (key.block + static_cast<uint64_t>(vector * kVectorBlocks));
    Counters even{block, block >> 32, Lanes{}, Lanes{}};
    Counters odd{block + 1, (block + 1) >> 32, Lanes{}, Lanes{}};
    auto key0 = static_cast<uint32_t>(key.seed);
    auto key1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < kRounds; ++round) {
      even.advance(Lanes{} + key0, Lanes{} + key1);
      odd.advance(Lanes{} + key0, Lanes{} + key1);
      key0 += kWeyl0;
      key1 += kWeyl1;
    }
    uint32_t* out = words + vector / kVectorsPerGroup * kPhiloxGroupWords + vector % kVectorsPerGroup * kVectorBlocks;
    store_words(out, even.c0, odd.c0);
    store_words(out + kPhiloxGroupBlocks, even.c1, odd.c1);
    store_words(out + 2 * kPhiloxGroupBlocks, even.c2, odd.c2);
    store_words(out + 3 * kPhiloxGroupBlocks, even.c3, odd.c3);
  }
}
