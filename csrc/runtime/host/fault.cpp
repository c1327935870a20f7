#include "fault.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "error.h"
#include "memory_guard.h"

namespace gxu::host {
namespace {

struct Frame {
  sigjmp_buf resume;
  uint64_t team;  // WaitingTeam's number, 0: none
  Fault fault;
};

// A pthread key: glibc reads one without allocating, so that a signal handler may. A thread_local would have to be of
// the initial-exec model for that, and such a library cannot be loaded any more once others have used up the static TLS
// block.
class FrameOfThread {
 public:
  FrameOfThread() { pthread_key_create(&key_, nullptr); }
  Frame* get() const { return static_cast<Frame*>(pthread_getspecific(key_)); }
  void set(Frame* frame) { pthread_setspecific(key_, frame); }
  Frame* exchange(Frame* frame) {
    Frame* before = get();
    set(frame);
    return before;
  }

 private:
  pthread_key_t key_ = 0;
};

FrameOfThread innermost;

struct Handled {
  int signal;
  const char* name;
  struct sigaction previous;
};

// What WaitingTeam::stop sends: a signal that nothing else in the process is likely to use.
const int kStop = SIGRTMAX - 5;

Handled handled[] = {{SIGSEGV, "SIGSEGV", {}},
                     {SIGBUS, "SIGBUS", {}},
                     {SIGFPE, "SIGFPE", {}},
                     {SIGILL, "SIGILL", {}},
                     {kStop, "a request to stop", {}}};

Handled* find_handled(int signal) {
  for (Handled& entry : handled) {
    if (entry.signal == signal) return &entry;
  }
  return nullptr;
}

// Raised by an instruction of this thread, or by a handler of this process that was in front and passes it on.
bool is_own_fault(const siginfo_t& info) {
  return info.si_signo != kStop && (info.si_code > 0 || (info.si_code == SI_TKILL && info.si_pid == getpid()));
}

// Sent by WaitingTeam::stop.
bool is_request_to_stop(const siginfo_t& info) {
  return info.si_signo == kStop && info.si_code == SI_QUEUE && info.si_pid == getpid();
}

// With GXU_MEMORY_GUARD=1: says which block a fault outside of kernels missed, as nobody else can.
void name_guarded_block(const siginfo_t& info) {
  if (!guards_memory() || info.si_signo != SIGSEGV || info.si_code <= 0) return;
  const std::string place = describe_guarded_address(info.si_addr, true);
  if (!place.empty()) {
    dprintf(STDERR_FILENO, "GXU_MEMORY_GUARD: invalid access at %p, %s\n", info.si_addr, place.c_str());
  }
}

// What would have happened without this engine.
void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = find_handled(signal)->previous;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    if (previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
    struct sigaction original{};
    original.sa_handler = SIG_DFL;
    sigaction(signal, &original, nullptr);
    if (info->si_code <= 0) raise(signal);  // else the instruction runs again, and faults again
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  Frame* frame = innermost.get();
  if (frame != nullptr && is_own_fault(*info)) {
    innermost.set(nullptr);
    frame->fault = {signal, info->si_code > 0 && info->si_code != SI_KERNEL, info->si_addr};
    siglongjmp(frame->resume, 1);
  }
  if (is_request_to_stop(*info)) {
    if (frame == nullptr || frame->team != reinterpret_cast<uintptr_t>(info->si_value.sival_ptr)) return;  // it left
    innermost.set(nullptr);
    siglongjmp(frame->resume, 1);
  }
  const int saved = errno;
  name_guarded_block(*info);
  pass_on(signal, info, context);
  errno = saved;
}

// SA_NODEFER: the handler leaves by a jump, which restores no signal mask.
void install_handlers() {
  for (Handled& entry : handled) {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(entry.signal, &action, &entry.previous);
  }
}

// A stack for the handler, so that a kernel that ran out of stack is caught, too. Threads that have one keep theirs.
class HandlerStack {
 public:
  HandlerStack() {
    stack_t current{};
    if (sigaltstack(nullptr, &current) != 0 || (current.ss_flags & SS_DISABLE) == 0) return;
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_t wanted{};
    wanted.ss_sp = memory;
    wanted.ss_size = kBytes;
    if (sigaltstack(&wanted, nullptr) == 0) {
      memory_ = memory;
    } else {
      munmap(memory, kBytes);
    }
  }

  ~HandlerStack() {
    stack_t current{};
    if (memory_ == nullptr || sigaltstack(nullptr, &current) != 0 || current.ss_sp != memory_) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    if (sigaltstack(&none, nullptr) == 0) munmap(memory_, kBytes);
  }

  HandlerStack(const HandlerStack&) = delete;

 private:
  static constexpr size_t kBytes = size_t{64} << 10;  // the registers of AVX-512 and AMX alone take 11 KiB
  void* memory_ = nullptr;
};

Fault run_frame(void (*body)(void* argument), void* argument, uint64_t team) {
  install_fault_handlers();
  thread_local const HandlerStack stack;
  (void)stack;
  Frame frame;
  frame.team = team;
  // The jump does not restore the mask: on_fault runs with the mask of the code that it interrupted.
  if (sigsetjmp(frame.resume, 0) == 0) {
    innermost.set(&frame);
    body(argument);
    innermost.set(nullptr);
  }
  return frame.fault;
}

}  // namespace

void install_fault_handlers() {
  static std::once_flag installed;
  std::call_once(installed, install_handlers);
}

Fault catch_faults(void (*body)(void* argument), void* argument) { return run_frame(body, argument, 0); }

void leave_kernel() { siglongjmp(innermost.exchange(nullptr)->resume, 1); }

WaitingTeam::WaitingTeam()
    : number_([] {
        static std::atomic<uint64_t> last{0};
        return ++last;
      }()) {}

Fault WaitingTeam::run(void (*body)(void* argument), void* argument) {
  {
    std::lock_guard lock(mutex_);
    threads_.push_back(pthread_self());
  }
  const Fault fault = run_frame(body, argument, number_);
  std::lock_guard lock(mutex_);
  std::erase_if(threads_, [](pthread_t thread) { return pthread_equal(thread, pthread_self()) != 0; });
  return fault;
}

void WaitingTeam::stop() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (threads_.empty()) return;
      sigval value{};
      value.sival_ptr = reinterpret_cast<void*>(static_cast<uintptr_t>(number_));
      for (const pthread_t thread : threads_) pthread_sigqueue(thread, kStop, value);
    }
    usleep(1000);  // a thread that runs engine code at the moment does not listen
  }
}

OutsideKernel::OutsideKernel() : frame_(innermost.exchange(nullptr)) {}
OutsideKernel::~OutsideKernel() { innermost.set(static_cast<Frame*>(frame_)); }

std::string describe(const Fault& fault) {
  const char* name = find_handled(fault.signal)->name;
  if (!fault.has_address) return format_text("%s at an unknown address", name);
  std::string text = format_text("%s at address %p", name, fault.address);
  const std::string place = guards_memory() ? describe_guarded_address(fault.address, false) : "";
  return place.empty() ? text : text + ", " + place;
}

}  // namespace gxu::host
