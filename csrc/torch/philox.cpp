#include "philox.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC's own definition of _mm512_mul_epu32
#endif

namespace gxu {
namespace {

// Constants of the paper: multipliers of the rounds, and the steps of the key (golden ratio, sqrt(3) - 1).
constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

#if defined(__x86_64__)

#define GXU_VECTOR_BYTES 16
#define GXU_VECTOR_PRODUCT(a, b) \
  reinterpret_cast<Lanes>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)))
namespace sse2 {
#include "philox_lanes.h"
}
#undef GXU_VECTOR_BYTES
#undef GXU_VECTOR_PRODUCT

#pragma GCC push_options
#pragma GCC target("avx2")
#define GXU_VECTOR_BYTES 32
#define GXU_VECTOR_PRODUCT(a, b) \
  reinterpret_cast<Lanes>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)))
namespace avx2 {
#include "philox_lanes.h"
}
#undef GXU_VECTOR_BYTES
#undef GXU_VECTOR_PRODUCT
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define GXU_VECTOR_BYTES 64
#define GXU_VECTOR_PRODUCT(a, b) \
  reinterpret_cast<Lanes>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)))
namespace avx512 {
#include "philox_lanes.h"
}
#undef GXU_VECTOR_BYTES
#undef GXU_VECTOR_PRODUCT
#pragma GCC pop_options

auto* select_version() {
  return __builtin_cpu_supports("avx512f") ? &avx512::philox_words
         : __builtin_cpu_supports("avx2")  ? &avx2::philox_words
                                           : &sse2::philox_words;
}

#else

#define GXU_VECTOR_BYTES 16
#define GXU_VECTOR_PRODUCT(a, b) (((a) & (Lanes{} + 0xFFFFFFFFu)) * (b))
namespace generic {
#include "philox_lanes.h"
}
#undef GXU_VECTOR_BYTES
#undef GXU_VECTOR_PRODUCT

auto* select_version() { return &generic::philox_words; }

#endif

}  // namespace

void philox_words(PhiloxKey key, uint32_t* words, int64_t groups) {
  static auto* const version = select_version();
  version(key, words, groups);
}

}  // namespace gxu
