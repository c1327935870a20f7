// Distributions. ATen checks the arguments and calls these kernels through its dispatch stubs, as it does for its own
// devices. The numbers depend on the generator's state, the dtype and the number of elements, not on the number of
// threads or the machine's vectors.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Dispatch_v2.h>
#include <ATen/native/TensorIterator.h>
#include <ATen/native/UnaryOps.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "random_fill.h"
#include "random_operator.h"
#include "random_values.h"

namespace gxu {
namespace {

constexpr double kPi = 3.14159265358979323846;

// A number in (0, 1) from 53 bits.
inline double open_interval(uint64_t word) { return (static_cast<double>(word >> 11) + 0.5) * 0x1p-53; }

void narrow(const float* wide, at::Half* values, int64_t groups) {
  half_values(wide, reinterpret_cast<uint16_t*>(values), groups);
}
void narrow(const float* wide, at::BFloat16* values, int64_t groups) {
  bfloat16_values(wide, reinterpret_cast<uint16_t*>(values), groups);
}

// Fills with `convert_float(words, float*, groups)` where floats are wide enough for T, each rounded to T.
template <typename T, typename ConvertFloat>
void fill_from_floats(void* memory, int64_t count, PhiloxKey key, const ConvertFloat& convert_float) {
  auto* out = static_cast<T*>(memory);
  if constexpr (std::is_same_v<T, float>) {
    fill_random<kShortWords>(out, count, key, convert_float);
  } else {
    fill_random<kShortWords>(out, count, key, [&](const uint32_t* words, T* values, int64_t groups) {
      alignas(64) float wide[kRandomChunk * kPhiloxGroupWords];
      convert_float(words, wide, groups);
      narrow(wide, values, groups);
    });
  }
}

// Fills with `make(random 64-bit number)`, called for the elements alone: it may take long.
template <typename T, typename Make>
void fill_from_long_words(void* memory, int64_t count, PhiloxKey key, const Make& make) {
  auto* out = static_cast<T*>(memory);
  for_each_random_chunk(
      key, philox_groups(count, kLongWords), [&](const uint32_t* words, int64_t group, int64_t groups) {
        T* values = out + group * kLongWords;
        const int64_t wanted = std::min(groups * kLongWords, count - group * kLongWords);
        for_each_long_word(words, wanted, [&](int64_t i, uint64_t word) { values[i] = static_cast<T>(make(word)); });
      });
}

// The largest number of a 16-bit type below a finite `value`. Negative numbers have the bits of positive ones and a
// sign.
template <typename T>
T number_below(T value) {
  constexpr uint16_t kSign = 0x8000;
  const bool is_zero = (value.x & ~kSign) == 0;
  const auto bits = is_zero ? kSign + 1 : (value.x & kSign) != 0 ? value.x + 1 : value.x - 1;
  return T(static_cast<uint16_t>(bits), T::from_bits());
}

template <typename T>
void fill_uniform(void* memory, int64_t count, PhiloxKey key, double from, double to) {
  if constexpr (std::is_same_v<T, double>) {
    fill_from_long_words<double>(memory, count, key, [=](uint64_t word) {
      const double value = static_cast<double>(word >> 11) * 0x1p-53 * (to - from) + from;
      return value == to ? from : value;
    });
  } else if constexpr (std::is_same_v<T, float>) {
    const auto low = static_cast<float>(from);
    const auto high = static_cast<float>(to);
    fill_from_floats<float>(memory, count, key, [=](const uint32_t* words, float* values, int64_t groups) {
      uniform_values(words, values, groups, low, high - low, high);
    });
  } else {
    // Numbers of float precision, as fine as T where they are small; what T rounds up to `to` becomes the number below.
    const auto low = static_cast<float>(from);
    const auto high = static_cast<float>(to);
    const auto end = static_cast<T>(high);
    const auto last = static_cast<T>(low) == end ? end : number_below(end);
    fill_random<kShortWords>(static_cast<T*>(memory), count, key,
                             [=](const uint32_t* words, T* values, int64_t groups) {
                               alignas(64) float wide[kRandomChunk * kPhiloxGroupWords];
                               uniform_values(words, wide, groups, low, high - low, high);
                               narrow(wide, values, groups);
                               for (int64_t i = 0; i < groups * kPhiloxGroupWords; ++i) {
                                 values[i].x = values[i].x == end.x ? last.x : values[i].x;
                               }
                             });
  }
}

// Normal numbers of double precision by the Box-Muller transform: a 64-bit word each for radius and angle, two values.
template <typename Finish>
void fill_normal_doubles(void* memory, int64_t count, PhiloxKey key, const Finish& finish) {
  fill_random<kLongWords>(static_cast<double*>(memory), count, key,
                          [&](const uint32_t* words, double* values, int64_t groups) {
                            for_each_long_word(words, groups * kLongWords, [&](int64_t i, uint64_t word) {
                              const bool is_angle = (i / kPhiloxGroupBlocks) % 2 != 0;
                              if (!is_angle) {
                                values[i] = std::sqrt(-2.0 * std::log(open_interval(word)));
                                return;
                              }
                              const double angle = 2.0 * kPi * (static_cast<double>(word >> 11) * 0x1p-53);
                              const double radius = values[i - kPhiloxGroupBlocks];
                              values[i - kPhiloxGroupBlocks] = finish(radius * std::cos(angle));
                              values[i] = finish(radius * std::sin(angle));
                            });
                          });
}

template <typename T>
void fill_normal(void* memory, int64_t count, PhiloxKey key, double mean, double std) {
  if constexpr (std::is_same_v<T, double>) {
    fill_normal_doubles(memory, count, key, [=](double value) { return value * std + mean; });
  } else {
    fill_from_floats<T>(memory, count, key, [=](const uint32_t* words, float* values, int64_t groups) {
      normal_values(words, values, groups, static_cast<float>(mean), static_cast<float>(std));
    });
  }
}

template <typename T>
void fill_log_normal(void* memory, int64_t count, PhiloxKey key, double mean, double std) {
  if constexpr (std::is_same_v<T, double>) {
    fill_normal_doubles(memory, count, key, [=](double value) { return std::exp(value * std + mean); });
  } else {
    fill_from_floats<T>(memory, count, key, [=](const uint32_t* words, float* values, int64_t groups) {
      normal_values(words, values, groups, static_cast<float>(mean), static_cast<float>(std));
      for (int64_t i = 0; i < groups * kPhiloxGroupWords; ++i) {
        values[i] = std::exp(values[i]);
      }
    });
  }
}

template <typename T>
void fill_exponential(void* memory, int64_t count, PhiloxKey key, double lambda) {
  if constexpr (std::is_same_v<T, double>) {
    fill_from_long_words<double>(memory, count, key,
                                 [=](uint64_t word) { return -std::log(open_interval(word)) / lambda; });
  } else {
    const auto scale = static_cast<float>(1.0 / lambda);
    fill_from_floats<T>(memory, count, key, [=](const uint32_t* words, float* values, int64_t groups) {
      exponential_values(words, values, groups, scale);
    });
  }
}

// The values of `word` in [0, range): the upper half of the product. Where 32 bits are used, range is at most 2^24 or a
// power of two, so that no value is favoured by more than 2^-8 of its probability.
template <typename T>
void fill_integers(void* memory, int64_t count, PhiloxKey key, uint64_t range, int64_t base, bool long_words) {
  const auto shifted = [base](uint64_t value) { return static_cast<int64_t>(value + static_cast<uint64_t>(base)); };
  if (long_words) {
    fill_from_long_words<T>(memory, count, key, [=](uint64_t word) {
      // A range of 0 stands for 2^64.
      return shifted(range == 0 ? word : static_cast<uint64_t>((static_cast<unsigned __int128>(word) * range) >> 64));
    });
    return;
  }
  fill_random<kShortWords>(static_cast<T*>(memory), count, key, [=](const uint32_t* words, T* values, int64_t groups) {
    alignas(64) uint32_t integers[kRandomChunk * kPhiloxGroupWords];
    integer_values(words, integers, groups, static_cast<uint32_t>(range));
    for (int64_t i = 0; i < groups * kPhiloxGroupWords; ++i) {
      values[i] = static_cast<T>(shifted(integers[i]));
    }
  });
}

template <typename Dispatch>
void run_integers(const at::TensorBase& self, uint64_t range, const std::optional<at::Generator>& generator,
                  const Dispatch& dispatch) {
  constexpr uint64_t kShortRange = uint64_t{1} << 24;
  const bool is_power_of_two = (range & (range - 1)) == 0;
  if (range != 0 && (range <= kShortRange || (is_power_of_two && range < uint64_t{1} << 32))) {
    run_random<kShortWords>(self, generator,
                            [&](void* memory, int64_t count, PhiloxKey key) { dispatch(memory, count, key, false); });
  } else {
    run_random<kLongWords>(self, generator,
                           [&](void* memory, int64_t count, PhiloxKey key) { dispatch(memory, count, key, true); });
  }
}

void integers(const at::TensorBase& self, uint64_t range, int64_t base, const std::optional<at::Generator>& generator) {
  const at::ScalarType dtype = self.scalar_type();
  run_integers(self, range, generator, [=](void* memory, int64_t count, PhiloxKey key, bool long_words) {
    AT_DISPATCH_V2(
        dtype, "random_gxu", AT_WRAP([&] { fill_integers<scalar_t>(memory, count, key, range, base, long_words); }),
        AT_EXPAND(AT_ALL_TYPES), AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES), at::kBool, at::kHalf, at::kBFloat16);
  });
}

void random_from_to_kernel(at::TensorIteratorBase& iter, uint64_t range, int64_t base,
                           std::optional<at::Generator> generator) {
  integers(iter.tensor_base(0), range, base, generator);
}

void random_full_range_kernel(at::TensorIteratorBase& iter, std::optional<at::Generator> generator) {
  integers(iter.tensor_base(0), 0, 0, generator);
}

// random_() without bounds: [0, largest value], for floating-point types [0, 2^digits].
void random_kernel(at::TensorIteratorBase& iter, std::optional<at::Generator> generator) {
  const at::TensorBase& self = iter.tensor_base(0);
  uint64_t range = 0;
  AT_DISPATCH_V2(self.scalar_type(), "random_gxu", AT_WRAP([&] {
                   if constexpr (std::is_integral_v<scalar_t>) {
                     range = static_cast<uint64_t>(std::numeric_limits<scalar_t>::max()) + 1;
                   } else {
                     range = (uint64_t{1} << std::numeric_limits<scalar_t>::digits) + 1;
                   }
                 }),
                 AT_EXPAND(AT_ALL_TYPES), AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES), at::kBool, at::kHalf, at::kBFloat16);
  integers(self, range, 0, generator);
}

// Calls `fill.operator()<scalar_t>(memory, count, key)`; doubles take 64 bits each, other types 32.
template <typename Fill>
void run_floating(const at::TensorBase& self, const std::optional<at::Generator>& generator, const Fill& fill) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, self.scalar_type(), "random_gxu", [&] {
    constexpr int64_t kPerGroup = std::is_same_v<scalar_t, double> ? kLongWords : kShortWords;
    run_random<kPerGroup>(self, generator, [=](void* memory, int64_t count, PhiloxKey key) {
      fill.template operator()<scalar_t>(memory, count, key);
    });
  });
}

void uniform_kernel(at::TensorIteratorBase& iter, double from, double to, std::optional<at::Generator> generator) {
  run_floating(iter.tensor_base(0), generator, [=]<typename T>(void* memory, int64_t count, PhiloxKey key) {
    fill_uniform<T>(memory, count, key, from, to);
  });
}

void normal_kernel(const at::TensorBase& self, double mean, double std, std::optional<at::Generator> generator) {
  run_floating(self, generator, [=]<typename T>(void* memory, int64_t count, PhiloxKey key) {
    fill_normal<T>(memory, count, key, mean, std);
  });
}

void log_normal_kernel(at::TensorIteratorBase& iter, double mean, double std, std::optional<at::Generator> generator) {
  run_floating(iter.tensor_base(0), generator, [=]<typename T>(void* memory, int64_t count, PhiloxKey key) {
    fill_log_normal<T>(memory, count, key, mean, std);
  });
}

void exponential_kernel(at::TensorIteratorBase& iter, double lambda, std::optional<at::Generator> generator) {
  run_floating(iter.tensor_base(0), generator, [=]<typename T>(void* memory, int64_t count, PhiloxKey key) {
    fill_exponential<T>(memory, count, key, lambda);
  });
}

void cauchy_kernel(at::TensorIteratorBase& iter, double median, double sigma, std::optional<at::Generator> generator) {
  const at::TensorBase& self = iter.tensor_base(0);
  const at::ScalarType dtype = self.scalar_type();
  run_random<kLongWords>(self, generator, [=](void* memory, int64_t count, PhiloxKey key) {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "cauchy_gxu", [&] {
      fill_from_long_words<scalar_t>(memory, count, key, [=](uint64_t word) {
        return median + sigma * std::tan(kPi * (open_interval(word) - 0.5));
      });
    });
  });
}

// The number of trials until the first success, from 1.
void geometric_kernel(at::TensorIteratorBase& iter, double p, std::optional<at::Generator> generator) {
  const at::TensorBase& self = iter.tensor_base(0);
  const at::ScalarType dtype = self.scalar_type();
  const double scale = 1.0 / std::log1p(-p);
  run_random<kLongWords>(self, generator, [=](void* memory, int64_t count, PhiloxKey key) {
    AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "geometric_gxu", [&] {
      fill_from_long_words<scalar_t>(memory, count, key, [=](uint64_t word) {
        return std::max(1.0, std::ceil(std::log(open_interval(word)) * scale));
      });
    });
  });
}

void bernoulli_scalar_kernel(const at::TensorBase& self, double p, std::optional<at::Generator> generator) {
  // A probability of 1 has no 32-bit threshold.
  const bool always = p >= 1.0;
  const auto threshold = always ? 0u : static_cast<uint32_t>(p * 0x1p32);
  const at::ScalarType dtype = self.scalar_type();
  run_random<kShortWords>(self, generator, [=](void* memory, int64_t count, PhiloxKey key) {
    AT_DISPATCH_V2(
        dtype, "bernoulli_gxu", AT_WRAP([&] {
          auto* out = static_cast<scalar_t*>(memory);
          if (always) {
            std::fill_n(out, count, static_cast<scalar_t>(1));
            return;
          }
          fill_random<kShortWords>(out, count, key, [&](const uint32_t* words, scalar_t* values, int64_t groups) {
            if constexpr (sizeof(scalar_t) == 1) {
              bernoulli_values(words, reinterpret_cast<uint8_t*>(values), groups, threshold);
            } else {
              uint8_t bytes[kRandomChunk * kPhiloxGroupWords];
              bernoulli_values(words, bytes, groups, threshold);
              for (int64_t i = 0; i < groups * kPhiloxGroupWords; ++i) {
                values[i] = static_cast<scalar_t>(bytes[i]);
              }
            }
          });
        }),
        AT_EXPAND(AT_ALL_TYPES), AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES), at::kBool, at::kHalf, at::kBFloat16);
  });
}

// The probabilities as uniform numbers' upper bounds: one where u < p, with u of 32 bits in [0, 1).
void bernoulli_tensor_kernel(const at::TensorBase& self, const at::TensorBase& p,
                             std::optional<at::Generator> generator) {
  const at::Tensor uniform = at::empty_strided(self.sizes(), self.strides(), self.options().dtype(at::kFloat));
  const at::Tensor probabilities = at::Tensor(p).to(self.device()).expand(self.sizes());
  TORCH_CHECK(at::isFloatingType(probabilities.scalar_type()), "bernoulli_ expects probabilities of a floating-point ",
              "type, but got ", probabilities.scalar_type());
  // During a capture there are no values to check.
  TORCH_CHECK(current_capture(self.device().index()) != nullptr ||
                  ((probabilities >= 0) & (probabilities <= 1)).all().item<bool>(),
              "Expected p_in >= 0 && p_in <= 1 to be true, but got false.");
  run_floating(uniform, generator, [=]<typename T>(void* memory, int64_t count, PhiloxKey key) {
    fill_uniform<T>(memory, count, key, 0.0, 1.0);
  });
  at::Tensor(self).copy_(uniform < probabilities);
}

}  // namespace
}  // namespace gxu

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(random_from_to_stub, &gxu::random_from_to_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(random_full_64_bits_range_stub, &gxu::random_full_range_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(random_stub, &gxu::random_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(uniform_stub, &gxu::uniform_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(normal_stub, &gxu::normal_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(log_normal_stub, &gxu::log_normal_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(exponential_stub, &gxu::exponential_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(cauchy_stub, &gxu::cauchy_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(geometric_stub, &gxu::geometric_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(bernoulli_scalar_stub, &gxu::bernoulli_scalar_kernel)
REGISTER_PRIVATEUSE1_DISPATCH(bernoulli_tensor_stub, &gxu::bernoulli_tensor_kernel)
}  // namespace at::native
