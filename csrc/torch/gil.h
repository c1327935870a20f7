// Python's global interpreter lock, for code that waits. libgxu_torch.so does not know Python: `gxu._C` brings the two
// functions, and in a program without it there is no lock.
#pragma once

namespace gxu {

// `release` returns what `acquire` gets back, or nullptr where the thread does not hold the lock.
void set_gil_functions(void* (*release)(), void (*acquire)(void* state));

// The thread does not hold the lock in its scope.
class GilRelease {
 public:
  GilRelease();
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  void* state_;
};

}  // namespace gxu
