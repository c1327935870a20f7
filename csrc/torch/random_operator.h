// How an operator draws random numbers on gxu.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>

#include "alias.h"
#include "generator.h"
#include "stream.h"

namespace gxu {

constexpr int64_t kShortWords = kPhiloxGroupWords;     // values a group where each takes 32 bits
constexpr int64_t kLongWords = kPhiloxGroupWords / 2;  // where each takes 64

// Runs `fill(memory, count, key)`, which writes all elements of `self` in the order of memory, per_group of them from
// each group of words. Where the CPU does not reach the device's memory, or `self` has gaps, that is done on a dense
// tensor and copied.
template <int64_t per_group, typename Fill>
void run_random(const at::TensorBase& self, const std::optional<at::Generator>& generator, const Fill& fill) {
  const c10::DeviceIndex device = self.device().index();
  const int64_t count = self.numel();
  const int64_t words = (count + per_group - 1) / per_group * kPhiloxGroupWords;
  const PhiloxKey key = reserve_words(generator_or_default(generator, device), static_cast<uint64_t>(words));
  if (device_delegate(device) == Delegate::kCpu && self.is_non_overlapping_and_dense()) {
    synchronize_stream(device, current_stream_id(device));
    fill(self.mutable_data_ptr(), count, key);
    return;
  }
  const at::Tensor dense = at::empty(self.sizes(), at::TensorOptions(at::kCPU).dtype(self.dtype()));
  fill(dense.mutable_data_ptr(), count, key);
  at::Tensor(self).copy_(dense);
}

}  // namespace gxu
