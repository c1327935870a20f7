#include "atomics.h"

#include <atomic>
#include <shared_mutex>

namespace gxu::host {
namespace {

std::shared_mutex& running_kernels() {
  static auto* mutex = new std::shared_mutex;
  return *mutex;
}

std::atomic<bool> shared_with_processes{false};

}  // namespace

AtomicsTurn::AtomicsTurn(bool has_atomics, bool may_be_alone) {
  if (!has_atomics) return;
  if (may_be_alone && running_kernels().try_lock()) {
    if (!shared_with_processes.load(std::memory_order_relaxed)) {
      kind_ = Kind::kAlone;
      return;
    }
    running_kernels().unlock();
  }
  running_kernels().lock_shared();
  kind_ = Kind::kTogether;
}

void AtomicsTurn::share_with_processes() {
  shared_with_processes.store(true, std::memory_order_relaxed);
  std::shared_lock wait_for_the_one_alone(running_kernels());
}

AtomicsTurn::~AtomicsTurn() {
  if (kind_ == Kind::kAlone) running_kernels().unlock();
  if (kind_ == Kind::kTogether) running_kernels().unlock_shared();
}

}  // namespace gxu::host
