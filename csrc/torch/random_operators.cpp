// Random operators that gxu registers: ATen's own argument handling over the kernels of random.cpp, and those that are
// more than one distribution (dropout, permutations, sampling from weights).
#include <ATen/Dispatch.h>
#include <ATen/Dispatch_v2.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/native/UnaryOps.h>
#include <ATen/ops/bernoulli_native.h>
#include <ATen/ops/cauchy_native.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exponential_native.h>
#include <ATen/ops/geometric_native.h>
#include <ATen/ops/log_normal_native.h>
#include <ATen/ops/multinomial_native.h>
#include <ATen/ops/normal_native.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/random_native.h>
#include <ATen/ops/uniform_native.h>
#include <ATen/ops/zeros_like.h>

#include <numeric>
#include <vector>

#include "own_operator.h"
#include "random_fill.h"
#include "random_operator.h"
#include "random_values.h"

namespace gxu {
namespace {

using at::Generator;
using at::Tensor;

// Dropout of `count` dense elements; mask elements are 0 or 1.
template <typename T>
void drop_out(const T* input, T* output, uint8_t* mask, int64_t count, PhiloxKey key, uint32_t threshold, float scale) {
  const int64_t groups = philox_groups(count, kShortWords);
  for_each_random_chunk(key, groups, [&](const uint32_t* words, int64_t group, int64_t chunk_groups) {
    const int64_t begin = group * kShortWords;
    const int64_t elements = std::min(chunk_groups * kShortWords, count - begin);
    int64_t done = 0;
    if constexpr (std::is_same_v<T, float>) {
      done = elements / kShortWords * kShortWords;
      dropout_values(words, input + begin, output + begin, mask + begin, done / kShortWords, threshold, scale);
    }
    for (int64_t i = done; i < elements; ++i) {
      const bool kept = words[i] < threshold;
      mask[begin + i] = kept ? 1 : 0;
      // Computed in the type of arithmetic (float for half precision), as the CPU's product with the scale is.
      output[begin + i] = kept ? static_cast<T>(static_cast<at::opmath_type<T>>(input[begin + i]) *
                                                static_cast<at::opmath_type<T>>(scale))
                               : T(0);
    }
  });
}

std::tuple<Tensor, Tensor> native_dropout(const Tensor& input, double p, std::optional<bool> train) {
  if (input.numel() == 0) {
    return {input, at::empty_like(input, input.options().dtype(at::kBool))};
  }
  TORCH_CHECK(p >= 0 && p <= 1, "dropout probability has to be between 0 and 1, but got ", p);
  if ((train.has_value() && !*train) || p == 0) {
    return {input.clone(), at::ones_like(input, input.options().dtype(at::kBool))};
  }
  if (p == 1) {
    return {at::zeros_like(input), at::zeros_like(input, input.options().dtype(at::kBool))};
  }
  const double scale = 1.0 / (1.0 - p);
  const Tensor source = input.is_non_overlapping_and_dense() ? input : input.contiguous();
  const Tensor mask = at::empty_like(source, source.options().dtype(at::kBool));
  if (!at::isFloatingType(source.scalar_type()) || device_delegate(source.device().index()) != Delegate::kCpu) {
    mask.bernoulli_(1.0 - p);
    return {source * mask * scale, mask};
  }
  const Tensor output = at::empty_like(source);
  const auto threshold = static_cast<uint32_t>((1.0 - p) * 0x1p32);
  const at::ScalarType dtype = source.scalar_type();
  run_random<kShortWords>(mask, std::nullopt, [=](void* memory, int64_t count, PhiloxKey key) {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "native_dropout_gxu", [&] {
      drop_out(source.const_data_ptr<scalar_t>(), output.mutable_data_ptr<scalar_t>(), static_cast<uint8_t*>(memory),
               count, key, threshold, static_cast<float>(scale));
    });
  });
  return {output, mask};
}

// Numbers one after another, for algorithms that are sequential.
class RandomSequence {
 public:
  explicit RandomSequence(PhiloxKey key) : key_(key) {}

  // Uniform in [0, range) up to 2^-32 of a value's probability where range < 2^32.
  uint64_t below(uint64_t range) {
    if (next_ == kNumbers) {
      philox_words(key_, words_, kRandomChunk);
      key_.block += kRandomChunk * kPhiloxGroupBlocks;
      next_ = 0;
    }
    const uint64_t word = words_[2 * next_] | static_cast<uint64_t>(words_[2 * next_ + 1]) << 32;
    ++next_;
    return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * range) >> 64);
  }

 private:
  static constexpr int64_t kNumbers = kRandomChunk * kLongWords;

  PhiloxKey key_;
  int64_t next_ = kNumbers;
  alignas(64) uint32_t words_[kRandomChunk * kPhiloxGroupWords];
};

// Fisher and Yates's shuffle.
template <typename T>
void shuffle(T* out, int64_t count, PhiloxKey key) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(i);
  }
  RandomSequence sequence(key);
  for (int64_t i = 0; i + 1 < count; ++i) {
    std::swap(out[i], out[i + static_cast<int64_t>(sequence.below(static_cast<uint64_t>(count - i)))]);
  }
}

Tensor& randperm_out(int64_t n, std::optional<Generator> generator, Tensor& result) {
  TORCH_CHECK(n >= 0, "n must be non-negative, got", n);
  at::native::check_supported_max_int_with_precision(n, result);
  result.resize_({n});
  if (n == 0) {
    return result;
  }
  const at::ScalarType dtype = result.scalar_type();
  run_random<kLongWords>(result, generator, [=](void* memory, int64_t count, PhiloxKey key) {
    AT_DISPATCH_V2(dtype, "randperm_gxu", AT_WRAP([&] { shuffle(static_cast<scalar_t*>(memory), count, key); }),
                   AT_EXPAND(AT_ALL_TYPES), AT_EXPAND(AT_BAREBONES_UNSIGNED_TYPES), at::kHalf, at::kBFloat16);
  });
  return result;
}

// The values of `tensor` for the CPU to read now.
Tensor on_cpu(const Tensor& tensor) {
  const c10::DeviceIndex device = tensor.device().index();
  if (device_delegate(device) != Delegate::kCpu) {
    return tensor.to(at::kCPU);
  }
  synchronize_stream(device, current_stream_id(device));
  return alias_for_reading(tensor);
}

// Running sums of `weights` in `sums`; throws where they are no distribution.
void accumulate_weights(const double* weights, int64_t categories, double* sums) {
  double sum = 0;
  for (int64_t i = 0; i < categories; ++i) {
    TORCH_CHECK(weights[i] >= 0, "invalid multinomial distribution (encountering probability entry < 0)");
    TORCH_CHECK(std::isfinite(weights[i]),
                "invalid multinomial distribution (encountering probability entry = infinity or NaN)");
    sum += weights[i];
    sums[i] = sum;
  }
  TORCH_CHECK(sum > 0, "invalid multinomial distribution (sum of probabilities <= 0)");
}

// The category that `point` of [0, 1) falls into: never one of weight 0.
int64_t find_category(const double* begin, const double* end, double point) {
  const double* found = std::upper_bound(begin, end, point * end[-1]);
  // The product may be rounded up to the last sum.
  return (found != end ? found : std::lower_bound(begin, end, end[-1])) - begin;
}

// result [samples] or [distributions, samples] of kLong, self [categories] or [distributions, categories].
void multinomial_with_replacement(Tensor& result, const Tensor& self, int64_t samples,
                                  std::optional<Generator> generator) {
  const int64_t categories = self.size(-1);
  const int64_t distributions = self.dim() == 2 ? self.size(0) : 1;
  const Tensor weights = on_cpu(self).to(at::kDouble).contiguous();
  std::vector<double> sums(static_cast<size_t>(distributions * categories));
  for (int64_t i = 0; i < distributions; ++i) {
    accumulate_weights(weights.const_data_ptr<double>() + i * categories, categories, sums.data() + i * categories);
  }
  const auto fill = [=, sums = std::move(sums)](void* memory, int64_t count, PhiloxKey key) {
    auto* out = static_cast<int64_t*>(memory);
    for_each_random_chunk(key, philox_groups(count, kLongWords), [&](const uint32_t* words, int64_t group, int64_t n) {
      const int64_t first = group * kLongWords;
      for_each_long_word(words, std::min(n * kLongWords, count - first), [&](int64_t i, uint64_t word) {
        const double* begin = sums.data() + (first + i) / samples * categories;
        out[first + i] = find_category(begin, begin + categories, static_cast<double>(word >> 11) * 0x1p-53);
      });
    });
  };
  run_random<kLongWords>(result, generator, fill);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  using MaybeGenerator = std::optional<Generator>;
  implement(library, "uniform_", &at::native::uniform_);
  implement(library, "normal_", &at::native::normal_);
  implement(library, "normal.Tensor_float",
            static_cast<Tensor (*)(const Tensor&, double, MaybeGenerator)>(&at::native::normal));
  implement(library, "normal.float_Tensor",
            static_cast<Tensor (*)(double, const Tensor&, MaybeGenerator)>(&at::native::normal));
  implement(library, "normal.Tensor_Tensor",
            static_cast<Tensor (*)(const Tensor&, const Tensor&, MaybeGenerator)>(&at::native::normal));
  implement(library, "normal.Tensor_float_out",
            static_cast<Tensor& (*)(const Tensor&, double, MaybeGenerator, Tensor&)>(&at::native::normal_out));
  implement(library, "normal.float_Tensor_out",
            static_cast<Tensor& (*)(double, const Tensor&, MaybeGenerator, Tensor&)>(&at::native::normal_out));
  implement(library, "normal.Tensor_Tensor_out",
            static_cast<Tensor& (*)(const Tensor&, const Tensor&, MaybeGenerator, Tensor&)>(&at::native::normal_out));
  implement(library, "random_", static_cast<Tensor& (*)(Tensor&, MaybeGenerator)>(&at::native::random_));
  implement(library, "random_.to", static_cast<Tensor& (*)(Tensor&, int64_t, MaybeGenerator)>(&at::native::random_));
  implement(library, "random_.from",
            static_cast<Tensor& (*)(Tensor&, int64_t, std::optional<int64_t>, MaybeGenerator)>(&at::native::random_));
  implement(library, "bernoulli.out", &at::native::bernoulli_out);
  implement(library, "bernoulli_.Tensor",
            static_cast<Tensor& (*)(Tensor&, const Tensor&, MaybeGenerator)>(&at::native::bernoulli_));
  implement(library, "bernoulli_.float",
            static_cast<Tensor& (*)(Tensor&, double, MaybeGenerator)>(&at::native::bernoulli_));
  implement(library, "exponential_", &at::native::exponential_);
  implement(library, "geometric_", &at::native::geometric_);
  implement(library, "cauchy_", &at::native::cauchy_);
  implement(library, "log_normal_", &at::native::log_normal_);
  implement(library, "multinomial", &at::native::multinomial);
  implement(library, "multinomial.out", &at::native::multinomial_out);
  implement(library, "native_dropout", &native_dropout);
  implement(library, "randperm.generator_out", &randperm_out);
}

}  // namespace
}  // namespace gxu

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(multinomial_with_replacement_stub, &gxu::multinomial_with_replacement)
}  // namespace at::native
