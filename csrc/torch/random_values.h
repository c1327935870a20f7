// Random words (philox.h) turned into values of a distribution. One call converts whole groups, 64 words each, with the
// machine's vectors; the result does not depend on their width.
#pragma once

#include <cstdint>

namespace gxu {

// Uniform in [from, from + range); `to` is what that may be rounded to, and becomes `from`. 24 bits, one word a value.
void uniform_values(const uint32_t* words, float* values, int64_t groups, float from, float range, float to);

// Floats as the bits of fp16 and bf16 numbers.
void half_values(const float* values, uint16_t* halves, int64_t groups);
void bfloat16_values(const float* values, uint16_t* halves, int64_t groups);

// Normal by the Box-Muller transform, one word a value; absolute error below 5e-7 standard deviations.
void normal_values(const uint32_t* words, float* values, int64_t groups, float mean, float std);

// Exponential of rate 1, times `scale`; one word a value, never 0 for scale = 1.
void exponential_values(const uint32_t* words, float* values, int64_t groups, float scale);

// 1 where the word is below `threshold`, that is with probability threshold / 2^32.
void bernoulli_values(const uint32_t* words, uint8_t* values, int64_t groups, uint32_t threshold);

// Integers in [0, range), one word a value.
void integer_values(const uint32_t* words, uint32_t* values, int64_t groups, uint32_t range);

// mask as bernoulli_values; outputs[i] = inputs[i] * scale where it is set, else 0.
void dropout_values(const uint32_t* words, const float* inputs, float* outputs, uint8_t* mask, int64_t groups,
                    uint32_t threshold, float scale);

}  // namespace gxu
