// DeviceCache: memory that only requests directed to it use.
#include <c10/core/AllocatorConfig.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "../device_name.h"
#include "device_cache.h"

namespace gxu {

void DeviceCache::retain_pool(c10::MempoolId_t id, bool use_on_oom, bool no_split) {
  auto& pool = private_pools_[id];
  if (pool == nullptr) {
    pool = std::make_unique<PrivatePool>(id);
  }
  ++pool->use_count;
  pool->use_on_oom |= use_on_oom;
  pool->no_split |= no_split;
}

void DeviceCache::release_pool(c10::MempoolId_t id) {
  const auto pool = private_pools_.find(id);
  TORCH_CHECK(pool != private_pools_.end() && pool->second->use_count > 0, "The memory pool (", id.first, ", ",
              id.second, ") is not in use on ", device_name(), ":", static_cast<int>(device_), ".");
  --pool->second->use_count;
  forget_unused_pools();
}

int DeviceCache::pool_use_count(c10::MempoolId_t id) const {
  const auto pool = private_pools_.find(id);
  return pool != private_pools_.end() ? pool->second->use_count : 0;
}

void DeviceCache::begin_allocate_to_pool(c10::MempoolId_t id, StreamFilter filter) {
  for (const auto& [other, unused] : directed_) {
    TORCH_CHECK(other != id, "Requests already go to the memory pool (", id.first, ", ", id.second, ").");
  }
  process_events();
  retain_pool(id);
  directed_.insert(directed_.begin(), {id, std::move(filter)});
}

void DeviceCache::end_allocate_to_pool(c10::MempoolId_t id) {
  const auto entry =
      std::find_if(directed_.begin(), directed_.end(), [&](const auto& pair) { return pair.first == id; });
  TORCH_CHECK(entry != directed_.end(), "No requests go to the memory pool (", id.first, ", ", id.second, ").");
  directed_.erase(entry);
}

Block* DeviceCache::find_in_pools_for_oom(size_t size, c10::StreamId stream) {
  for (const auto& [id, pool] : private_pools_) {
    if (pool->use_on_oom) {
      Block* block = find_free(size <= kSmallBytes ? pool->small : pool->large, size, stream);
      if (block != nullptr) {
        return block;
      }
    }
  }
  return nullptr;
}

void DeviceCache::forget_unused_pools() {
  std::erase_if(private_pools_,
                [](const auto& entry) { return entry.second->use_count == 0 && entry.second->num_segments == 0; });
}

}  // namespace gxu
