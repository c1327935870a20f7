// Hardware faults in kernels: caught, so that they become the device's failure and the process lives on.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace gxu::host {

struct Fault {
  int signal = 0;                 // SIGSEGV, SIGBUS, SIGFPE or SIGILL; 0: none
  bool has_address = false;       // the system tells none for one that no process can have
  const void* address = nullptr;  // that was accessed; of the instruction for SIGFPE and SIGILL
};

// From the first call on, faults are looked at: those of kernels end the kernel, others go on to who handled them
// before.
void install_fault_handlers();

// Runs body(argument) on the calling thread. A hardware fault ends it where it happened: no destructors run, so only
// code of kernels may be under way then. Returns the fault.
Fault catch_faults(void (*body)(void* argument), void* argument);

// Ends what catch_faults runs on the calling thread, as a fault would, but without one.
[[noreturn]] void leave_kernel();

// The threads that run one kernel whose programs wait for one another: when one of them ends early, the others may wait
// forever and have to be stopped.
class WaitingTeam {
 public:
  WaitingTeam();
  // As catch_faults, on one of the threads.
  Fault run(void (*body)(void* argument), void* argument);
  // Makes every thread leave run(), and returns when they have.
  void stop();

 private:
  const uint64_t number_;  // never used again
  std::mutex mutex_;
  std::vector<pthread_t> threads_;
};

// While one is alive, faults of the calling thread are not the kernel's: for engine code that kernels call.
class OutsideKernel {
 public:
  OutsideKernel();
  ~OutsideKernel();
  OutsideKernel(const OutsideKernel&) = delete;

 private:
  void* const frame_;
};

// "SIGSEGV at address 0x10", with GXU_MEMORY_GUARD=1 also where that is.
std::string describe(const Fault& fault);

}  // namespace gxu::host
