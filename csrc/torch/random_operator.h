// How an operator draws random numbers on gxu.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <optional>

#include "alias.h"
#include "generator.h"
#include "graph_capture.h"
#include "stream.h"

namespace gxu {

constexpr int64_t kShortWords = kPhiloxGroupWords;     // values a group where each takes 32 bits
constexpr int64_t kLongWords = kPhiloxGroupWords / 2;  // where each takes 64

// Runs `fill(memory, count, key)`, which writes all elements of `self` in the order of memory, per_group of them from
// each group of words. Where the CPU does not reach the device's memory, or `self` has gaps, that is done on a dense
// tensor and copied. A graph keeps a copy of `fill`, which must hold values and no references.
template <int64_t per_group, typename Fill>
void run_random(const at::TensorBase& self, const std::optional<at::Generator>& generator, const Fill& fill) {
  const c10::DeviceIndex device = self.device().index();
  const bool is_reached = device_delegate(device) == Delegate::kCpu;
  if (is_reached && !self.is_non_overlapping_and_dense()) {
    const at::Tensor dense = at::empty(self.sizes(), self.options());
    run_random<per_group>(dense, generator, fill);
    at::Tensor(self).copy_(dense);
    return;
  }
  const int64_t count = self.numel();
  const auto words = static_cast<uint64_t>((count + per_group - 1) / per_group * kPhiloxGroupWords);
  GeneratorImpl& source = generator_or_default(generator, device);
  if (!is_reached) {
    forbid_in_capture(device, "A random number operator whose numbers the CPU draws");
  }
  if (GraphWork* work = current_capture(device)) {
    work->enqueue("a random number operator",
                  [memory = alias_as_cpu(at::Tensor(self)), position = work->reserve_words(source, words), count,
                   fill] { fill(memory.mutable_data_ptr(), count, position.key()); });
    return;
  }
  const PhiloxKey key = reserve_words(source, words);
  if (is_reached) {
    synchronize_stream(device, current_stream_id(device));
    fill(self.mutable_data_ptr(), count, key);
    return;
  }
  const at::Tensor on_cpu = at::empty(self.sizes(), at::TensorOptions(at::kCPU).dtype(self.dtype()));
  fill(on_cpu.mutable_data_ptr(), count, key);
  at::Tensor(self).copy_(on_cpu);
}

}  // namespace gxu
