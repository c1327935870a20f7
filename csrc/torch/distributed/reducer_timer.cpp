// What DistributedDataParallel times its iterations with: the host's clock. Forward and backward of one iteration run
// on the calling thread, or wait for it in a collective, so the times at which they are asked for are those of the
// device.
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

#include "../device.h"

namespace gxu {
namespace {

class ReducerTimer final : public c10d::Timer {
 public:
  explicit ReducerTimer(c10::Device /*device*/) {}

  std::optional<int64_t> measureDifference(Event start, Event end) override {
    const int64_t start_time = getTimeRef(start);
    const int64_t end_time = getTimeRef(end);
    // An event of an earlier iteration: this one was not recorded.
    if (end_time < start_time || start_time == c10d::kUnsetTime || end_time == c10d::kUnsetTime) {
      return std::nullopt;
    }
    return end_time - start_time;
  }
};

const bool registered = [] {
  c10d::TimerRegistry()->Register(
      kGxu, [](c10::Device device) -> std::unique_ptr<c10d::Timer> { return std::make_unique<ReducerTimer>(device); });
  return true;
}();

}  // namespace
}  // namespace gxu
