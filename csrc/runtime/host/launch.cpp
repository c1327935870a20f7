#include "launch.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#include "../common/arguments.h"
#include "api.h"
#include "atomics.h"
#include "device.h"
#include "fault.h"
#include "memory_check.h"
#include "module.h"
#include "parallel.h"
#include "scratch.h"
#include "shared_range.h"
#include "stream.h"

namespace gxu::host {
namespace {

// A launch with less work than this is faster on the calling thread alone. Measured with 2 threads: the team costs
// about 1 microsecond when its threads are awake (and a hundred times that when they sleep or the cores are busy), in
// which one core does 4,000 operations of scalar code or 50,000 of vector code. Generated kernels are vector code.
constexpr uint64_t kSerialWork = 65536;
// Pieces of the grid a thread gets on average: enough to even out programs of different length.
constexpr int64_t kPiecesPerThread = 8;
// Leaves room for the counter to run past the end by one piece a thread.
constexpr uint64_t kMaxPrograms = uint64_t{1} << 62;

struct RunningKernel {
  const KernelLaunch& launch;
  Device& device;
  WaitingTeam* team;  // of a kernel whose programs wait for one another
  const gxuHostServices* services;
  mutable std::atomic<bool> stopped{false};  // no more programs of it run
};

// The kernel whose programs the calling thread is running, for assert_fail.
thread_local const RunningKernel* running_kernel = nullptr;

void record_kernel_failure(const RunningKernel& running, const char* message) {
  running.device.record_failure(format_text("kernel '%s' failed: %s", running.launch.function->name.c_str(), message));
}

void assert_fail(const char* message) {
  const OutsideKernel outside;
  if (running_kernel == nullptr) return;
  record_kernel_failure(*running_kernel, message != nullptr ? message : "assertion");
  if (running_kernel->team != nullptr) running_kernel->stopped = true;
}

void print_line(const char* text) {
  const OutsideKernel outside;
  static std::mutex* mutex = new std::mutex;
  std::lock_guard lock(*mutex);
  std::fputs(text, stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

void check_accesses(const gxuHostAccess* access, int64_t program, const void* origin, const uint64_t* addresses,
                    uint8_t* wanted) {
  const RunningKernel* running = running_kernel;
  // No memory: the kernel was compiled with GXU_SANITIZE=1, but is not run with it.
  if (running == nullptr || running->launch.memory == nullptr) return;
  {
    const OutsideKernel outside;
    const KernelLaunch& launch = running->launch;
    const std::string error = launch.memory->check(*access, launch.grid, program, origin, addresses, wanted);
    if (error.empty()) return;
    record_kernel_failure(*running, error.c_str());
  }
  // Its programs may wait for what this access should have done, or for what it should have read.
  if (running->team != nullptr) {
    running->stopped = true;
    leave_kernel();
  }
}

constexpr gxuHostServices kServices = {sizeof(gxuHostServices), assert_fail, print_line, check_accesses, 0};
constexpr gxuHostServices kServicesAlone = {sizeof(gxuHostServices), assert_fail, print_line, check_accesses, 1};

void record_fault(const RunningKernel& running, const Fault& fault) {
  running.device.record_fault(
      format_text("kernel '%s' failed: it was stopped by %s; this process cannot use the device any more; "
                  "GXU_SANITIZE=1 finds the line of an invalid access",
                  running.launch.function->name.c_str(), describe(fault).c_str()));
}

// One thread's share: asks `next_piece` for ranges of programs until there are none.
template <typename NextPiece>
void run_pieces(const RunningKernel& running, NextPiece next_piece) {
  const KernelLaunch& launch = running.launch;
  const Function& function = *launch.function;
  try {
    void* scratch = thread_scratch(function.scratch_bytes);
    running_kernel = &running;
    auto run = [&] {
      for (int64_t begin, end; !running.stopped.load(std::memory_order_relaxed) && next_piece(begin, end);) {
        function.entry(launch.params.data(), &launch.grid, begin, end, scratch, running.services);
      }
    };
    auto call = [](void* body) { (*static_cast<decltype(run)*>(body))(); };
    const Fault fault = running.team != nullptr ? running.team->run(call, &run) : catch_faults(call, &run);
    running_kernel = nullptr;
    if (fault.signal != 0) [[unlikely]] {
      record_fault(running, fault);
      running.stopped = true;
    }
    if (running.stopped && running.team != nullptr) [[unlikely]] {
      running.team->stop();
    }
  } catch (const std::bad_alloc&) {
    record_kernel_failure(running, format_text("no memory for %llu bytes of scratch a thread",
                                               static_cast<unsigned long long>(function.scratch_bytes))
                                       .c_str());
  }
}

bool runs_on_one_thread(const KernelLaunch& launch, int threads) {
  const uint64_t work = launch.function->work_per_program;
  return launch.programs == 1 || threads == 1 ||
         (work != 0 && static_cast<uint64_t>(launch.programs) <= (kSerialWork - 1) / work);
}

// Whether one thread that is alone with its atomics is at least as fast as the team.
bool is_fastest_alone(const KernelLaunch& launch, int threads) {
  const uint32_t flags = launch.function->flags & GXU_HOST_KERNEL_ALONE_MASK;
  return threads <= static_cast<int>(flags >> GXU_HOST_KERNEL_ALONE_SHIFT);
}

}  // namespace

void run_kernel(const KernelLaunch& launch, Device& device) {
  if (device.has_faulted()) return;
  const uint32_t flags = launch.function->flags;
  const bool ordered = (flags & GXU_HOST_KERNEL_ORDERED) != 0;
  const int64_t programs = launch.programs;
  const int threads = team_size();
  const bool one_thread = runs_on_one_thread(launch, threads);
  const AtomicsTurn turn((flags & GXU_HOST_KERNEL_ATOMICS) != 0,
                         !ordered && (one_thread || is_fastest_alone(launch, threads)));
  std::optional<WaitingTeam> team;
  if (ordered) team.emplace();
  const RunningKernel running{launch, device, ordered ? &*team : nullptr, turn.alone() ? &kServicesAlone : &kServices};
  if (one_thread || turn.alone()) {
    bool taken = false;
    run_pieces(running, [&](int64_t& begin, int64_t& end) {
      begin = 0;
      end = programs;
      return !std::exchange(taken, true);
    });
    return;
  }
  // Programs that wait for one another start in order, one by one: what they wait for has then started before them.
  const int64_t piece = ordered ? 1 : std::max<int64_t>(1, programs / (threads * kPiecesPerThread));
  SharedRange range(programs, piece, ordered ? 1 : threads);
  auto body = [&](int index) {
    run_pieces(running, [&](int64_t& begin, int64_t& end) { return range.next(index, begin, end); });
  };
  run_team(body);
}

namespace {

// The engine runs a program as one thread whatever its block is, but a block that no device could run is an error.
constexpr uint64_t kMaxBlockThreads = 1024;

int64_t count_programs(const Function& function, const Dimensions& grid) {
  const uint64_t plane = uint64_t{grid.x} * grid.y;
  if (plane > kMaxPrograms / grid.z) {
    fail(gxuErrorInvalidValue, "kernel '%s': the grid (%u, %u, %u) has more than 2^62 programs", function.name.c_str(),
         grid.x, grid.y, grid.z);
  }
  return static_cast<int64_t>(plane * grid.z);
}

void copy_params(const Function& function, void** values, uint64_t* slots) {
  const size_t count = function.param_sizes.size();
  require_params(function.name.c_str(), values, count);
  for (size_t i = 0; i < count; ++i) {
    slots[i] = 0;
    switch (function.param_sizes[i]) {  // constant sizes, so that each copy is one instruction
      case 1:
        std::memcpy(&slots[i], values[i], 1);
        break;
      case 2:
        std::memcpy(&slots[i], values[i], 2);
        break;
      case 4:
        std::memcpy(&slots[i], values[i], 4);
        break;
      default:
        std::memcpy(&slots[i], values[i], 8);
        break;
    }
  }
}

}  // namespace
}  // namespace gxu::host

using namespace gxu::host;

gxuError_t gxuLaunchKernel(gxuFunction_t function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                           unsigned int block_x, unsigned int block_y, unsigned int block_z,
                           unsigned int shared_memory_bytes, gxuStream_t stream, void** kernel_params) {
  (void)shared_memory_bytes;  // a kernel of this engine takes its memory from its scratch block
  return api([&] {
    forbid_in_host_function("gxuLaunchKernel");
    const Function& kernel = resolve_function(function);
    Stream& target = resolve_current_stream(stream, "gxuLaunchKernel");
    target.device().report_fault();
    const Dimensions grid{grid_x, grid_y, grid_z};
    require_grid(kernel.name.c_str(), grid);
    require_block(kernel.name.c_str(), {block_x, block_y, block_z}, kMaxBlockThreads);
    const int64_t programs = count_programs(kernel, grid);
    KernelLaunch launch{&kernel,
                        {grid_x, grid_y, grid_z},
                        programs,
                        team_size(),
                        KernelParams(static_cast<uint32_t>(kernel.param_sizes.size())),
                        memory_for_launch()};
    copy_params(kernel, kernel_params, launch.params.data());
    target.order_with_default_stream();
    target.enqueue(std::move(launch));
  });
}
