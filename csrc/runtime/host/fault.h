// Hardware faults in kernels: caught, so that they become the device's failure and the process lives on.
#pragma once

namespace gxu::host {

struct Fault {
  int signal = 0;                 // SIGSEGV, SIGBUS, SIGFPE or SIGILL; 0: none
  const void* address = nullptr;  // that was accessed; of the instruction for SIGFPE and SIGILL
};

// Runs body(argument) on the calling thread. A hardware fault ends it where it happened: no destructors run, so only
// code of kernels may be under way then. Returns the fault.
Fault catch_faults(void (*body)(void* argument), void* argument);

// While one is alive, faults of the calling thread are not the kernel's: for engine code that kernels call.
class OutsideKernel {
 public:
  OutsideKernel();
  ~OutsideKernel();
  OutsideKernel(const OutsideKernel&) = delete;

 private:
  void* const frame_;
};

const char* signal_name(int signal);

}  // namespace gxu::host
