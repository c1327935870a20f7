// Loops without branches or calls, which the compiler turns into vector code. Clang does that at -O2; GCC needs to be
// told. Products and sums are not contracted, so that the values are the same on machines with and without fused
// multiply-add.
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("O3,no-trapping-math,fp-contract=off")
#endif

#include "random_values.h"

// The thread sanitizer instruments the function that chooses a version, which runs before the sanitizer can be called.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define GXU_VECTOR_VERSIONS __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define GXU_VECTOR_VERSIONS
#endif
#define GXU_INLINE __attribute__((always_inline)) inline

namespace gxu {
namespace {

constexpr int64_t kGroup = 64;
constexpr int64_t kLanes = 16;

// In (0, 1]; 31 bits where it is small. The conversion is that of a signed integer, which every machine has.
GXU_INLINE float unit_interval(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 1)) * 0x1p-31f + 0x1p-32f;
}

// Natural logarithm of a positive normal number. Constants: minimax polynomial of the Cephes library's logf.
GXU_INLINE float logarithm(float x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  const auto bits = __builtin_bit_cast(int32_t, x);
  const int32_t exponent = (bits - kSqrtHalf) >> 23;
  const auto mantissa = __builtin_bit_cast(float, bits - static_cast<int32_t>(static_cast<uint32_t>(exponent) << 23));
  const float f = mantissa - 1.0f;  // in [sqrt(1/2) - 1, sqrt(2) - 1)
  const float square = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  // ln(2) in two parts, of which the larger times any exponent is exact.
  const auto scale = static_cast<float>(exponent);
  return f + (p * f * square + scale * -2.12194440e-4f - 0.5f * square) + scale * 0.693359375f;
}

// Relative error below 2e-7; 0 for 0. By Newton's method, as sqrtf may set errno and is no vector instruction then.
GXU_INLINE float square_root(float x) {
  float reciprocal = __builtin_bit_cast(float, 0x5f3759df - (__builtin_bit_cast(int32_t, x) >> 1));
  const float half = 0.5f * x;
  reciprocal *= 1.5f - half * reciprocal * reciprocal;
  reciprocal *= 1.5f - half * reciprocal * reciprocal;
  reciprocal *= 1.5f - half * reciprocal * reciprocal;
  return x * reciprocal;
}

// `value` with its sign changed where bit 1 of `quadrant` is set.
GXU_INLINE float with_sign(float value, int32_t quadrant) {
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, value) ^ (static_cast<uint32_t>(quadrant & 2) << 30));
}

struct SineAndCosine {
  float sine;
  float cosine;
};

// Of 2 pi (word / 2^32), from the upper 24 bits. Constants: polynomials of the Cephes library's sinf and cosf.
GXU_INLINE SineAndCosine full_turn(uint32_t word) {
  const float quarters = static_cast<float>(static_cast<int32_t>(word >> 8)) * 0x1p-22f;
  const auto nearest = static_cast<int32_t>(quarters + 0.5f);
  const float x = (quarters - static_cast<float>(nearest)) * 1.57079632679f;  // in [-pi/4, pi/4]
  const float z = x * x;
  const float sine = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  const float cosine =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  const bool odd = (nearest & 1) != 0;
  return {with_sign(odd ? cosine : sine, nearest), with_sign(odd ? sine : cosine, nearest + 1)};
}

}  // namespace

GXU_VECTOR_VERSIONS void uniform_values(const uint32_t* __restrict words, float* __restrict values, int64_t groups,
                                        float from, float range, float to) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    const float value = static_cast<float>(static_cast<int32_t>(words[i] >> 8)) * 0x1p-24f * range + from;
    values[i] = value == to ? from : value;
  }
}

GXU_VECTOR_VERSIONS void normal_values(const uint32_t* __restrict words, float* __restrict values, int64_t groups,
                                       float mean, float std) {
  for (int64_t pair = 0; pair < 2 * groups; ++pair, words += 2 * kLanes, values += 2 * kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float radius = square_root(-2.0f * logarithm(unit_interval(words[lane])));
      const SineAndCosine angle = full_turn(words[kLanes + lane]);
      values[lane] = radius * angle.cosine * std + mean;
      values[kLanes + lane] = radius * angle.sine * std + mean;
    }
  }
}

GXU_VECTOR_VERSIONS void exponential_values(const uint32_t* __restrict words, float* __restrict values, int64_t groups,
                                            float scale) {
  constexpr float kSmallest = 0x1p-25f;  // -log of the largest number below 1, halved: what rounds to 1 lies closer
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    const float value = -logarithm(unit_interval(words[i]));
    values[i] = (value < kSmallest ? kSmallest : value) * scale;
  }
}

// To the nearest, ties to even. Below 2^-14 the sum with 1/2 rounds to multiples of 2^-24, the spacing of subnormals.
GXU_VECTOR_VERSIONS void half_values(const float* __restrict values, uint16_t* __restrict halves, int64_t groups) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, values[i]);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t subnormal = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000u;
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and more is infinite
    half = magnitude > 0x7f800000u ? 0x7e00u : half;
    halves[i] = static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u));
  }
}

GXU_VECTOR_VERSIONS void bfloat16_values(const float* __restrict values, uint16_t* __restrict halves, int64_t groups) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, values[i]);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    halves[i] = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
  }
}

GXU_VECTOR_VERSIONS void bernoulli_values(const uint32_t* __restrict words, uint8_t* __restrict values, int64_t groups,
                                          uint32_t threshold) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    values[i] = words[i] < threshold ? 1 : 0;
  }
}

GXU_VECTOR_VERSIONS void integer_values(const uint32_t* __restrict words, uint32_t* __restrict values, int64_t groups,
                                        uint32_t range) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    values[i] = static_cast<uint32_t>((static_cast<uint64_t>(words[i]) * range) >> 32);
  }
}

GXU_VECTOR_VERSIONS void dropout_values(const uint32_t* __restrict words, const float* __restrict inputs,
                                        float* __restrict outputs, uint8_t* __restrict mask, int64_t groups,
                                        uint32_t threshold, float scale) {
  for (int64_t i = 0; i < groups * kGroup; ++i) {
    const bool kept = words[i] < threshold;
    outputs[i] = kept ? inputs[i] * scale : 0.0f;
    mask[i] = kept ? 1 : 0;
  }
}

}  // namespace gxu
