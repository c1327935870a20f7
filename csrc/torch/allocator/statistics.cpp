#include "statistics.h"

namespace gxu {
namespace {

template <typename Function>
void for_each_stat(DeviceStats& stats, Function function) {
  for (StatArray* array :
       {&stats.allocation, &stats.segment, &stats.active, &stats.inactive_split, &stats.allocated_bytes,
        &stats.reserved_bytes, &stats.active_bytes, &stats.inactive_split_bytes, &stats.requested_bytes}) {
    for (auto& stat : *array) {
      function(stat);
    }
  }
  for (auto& [pool, array] : stats.reserved_bytes_by_private_pools) {
    for (auto& stat : array) {
      function(stat);
    }
  }
  function(stats.oversize_allocations);
  function(stats.oversize_segments);
}

}  // namespace

void reset_accumulated(DeviceStats& stats) {
  for_each_stat(stats, [](auto& stat) { stat.reset_accumulated(); });
  stats.num_alloc_retries = stats.num_ooms = stats.num_sync_all_streams = 0;
  stats.num_device_alloc = stats.num_device_free = stats.num_oom_rejections = 0;
}

void reset_peak(DeviceStats& stats) {
  for_each_stat(stats, [](auto& stat) { stat.reset_peak(); });
}

}  // namespace gxu
