// Which kernels with atomics may run at the same time.
#pragma once

#include <cstdint>

namespace gxu::host {

// Held while a kernel with GXU_HOST_KERNEL_ATOMICS runs. Any number of them run together, unless one is alone: then it
// is the only kernel with atomics in the process, on whatever stream and device, and needs no locked instructions.
class AtomicsTurn {
 public:
  enum class Kind { kNone, kTogether, kAlone };

  // `may_be_alone`: whether the kernel runs on one thread and waits for no other kernel. Being alone is never waited
  // for: kernels that run may wait for this one. A kernel that is not alone waits for the one that is, which ends.
  AtomicsTurn(bool has_atomics, bool may_be_alone);
  ~AtomicsTurn();
  AtomicsTurn(const AtomicsTurn&) = delete;

  // From now on no kernel is alone: another process shares memory with this one, and its kernels take no turn here.
  // Returns when none is alone any more.
  static void share_with_processes();

  bool alone() const { return kind_ == Kind::kAlone; }

 private:
  Kind kind_ = Kind::kNone;
};

}  // namespace gxu::host
