// Helper threads for the engine's own executor threads.
//
// These do not use OpenMP: every thread that starts a parallel region gets OpenMP threads of its own, and once libgomp
// manages more threads than there are cores, all of its teams, PyTorch's included, stop spinning between regions and
// pay a system call each time. Helpers here sleep when idle and are not waited for unless they have begun to work, so
// a busy machine does not hold a kernel up.
#pragma once

#include <condition_variable>
#include <mutex>

namespace gxu::host {

class BackgroundTeam {
 public:
  // Runs body(argument, index) on the calling thread, whose index is 0, and on up to `threads` - 1 helpers, each with
  // an index of its own below `threads`; returns when all that began have ended. The team serves one caller at a time:
  // a second one runs its body alone.
  void run(int threads, void (*body)(void* argument, int index), void* argument);

 private:
  void start_helpers(int wanted);
  void helper_main();

  std::mutex mutex_;
  std::condition_variable wakeup_;
  std::condition_variable done_;
  bool busy_ = false;
  int helpers_ = 0;  // threads started
  int open_ = 0;     // helpers that may still join the current job
  int active_ = 0;   // helpers at work on it
  void (*body_)(void* argument, int index) = nullptr;
  void* argument_ = nullptr;
};

BackgroundTeam& background_team();

}  // namespace gxu::host
