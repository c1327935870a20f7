#include "history.h"

#include <algorithm>

#include "block_pool.h"

namespace gxu {
namespace {

// Changed only under the allocator's lock, as it is read there; `when` is read by gather_context without it.
HistorySettings& settings() {
  static auto* instance = new HistorySettings;
  return *instance;
}

std::atomic<RecordContext> recorded_level{RecordContext::NEVER};
std::atomic<CreateContextFn> create_context{nullptr};

thread_local std::string thread_metadata;

}  // namespace

std::atomic<bool> History::enabled_{false};

std::shared_ptr<c10::GatheredContext> gather_context(RecordContext level) {
  if (C10_LIKELY(recorded_level.load(std::memory_order_relaxed) < level)) {
    return nullptr;
  }
  const CreateContextFn create = create_context.load();
  return create != nullptr ? create() : nullptr;
}

void set_memory_metadata(std::string metadata) { thread_metadata = std::move(metadata); }

const std::string& memory_metadata() { return thread_metadata; }

void History::configure(const HistorySettings& wanted) {
  settings() = wanted;
  create_context.store(wanted.create_context);
  recorded_level.store(wanted.enabled ? wanted.when : RecordContext::NEVER);
  enabled_.store(wanted.enabled);
}

void History::record(TraceEntry::Action action, const Block& block, size_t size,
                     std::shared_ptr<c10::GatheredContext> context) {
  const PrivatePool* owner = block.pool->owner();
  record(action, block.device, reinterpret_cast<size_t>(block.pointer), size, block.stream,
         owner != nullptr ? owner->id : c10::MempoolId_t(0, 0), std::move(context));
}

void History::record(TraceEntry::Action action, c10::DeviceIndex device, size_t address, size_t size,
                     c10::StreamId stream, c10::MempoolId_t pool, std::shared_ptr<c10::GatheredContext> context) {
  const HistorySettings& wanted = settings();
  const auto& skipped = wanted.skipped_actions;
  if (!wanted.enabled || wanted.max_entries == 0 ||
      std::find(skipped.begin(), skipped.end(), action) != skipped.end()) {
    return;
  }
  if (wanted.when < RecordContext::ALLOC) {
    context = nullptr;
  }
  TraceEntry entry(action, device, address, size, reinterpret_cast<void*>(stream), pool, 0, std::move(context), "",
                   thread_metadata);
  entry.time_.t_ = c10::getTime();
  if (entries_.size() < wanted.max_entries) {
    std::rotate(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(oldest_), entries_.end());
    oldest_ = 0;
    entries_.push_back(std::move(entry));
  } else {
    entries_[oldest_] = std::move(entry);
    oldest_ = (oldest_ + 1) % entries_.size();
  }
}

std::vector<TraceEntry> History::entries() const {
  std::vector<TraceEntry> result(entries_.begin() + static_cast<std::ptrdiff_t>(oldest_), entries_.end());
  result.insert(result.end(), entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(oldest_));
  return result;
}

void History::clear() {
  entries_.clear();
  oldest_ = 0;
}

}  // namespace gxu
