/* Kernels for tests/runtime and the stress program: each checks one promise of the host engine. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "gxu_host_kernel.h"

#define KERNEL(name)                                                                                            \
  GXU_HOST_KERNEL_EXPORT void name(const uint64_t* params, const gxuHostGrid* grid, int64_t begin, int64_t end, \
                                   void* scratch, const gxuHostServices* services)
#define UNUSED (void)params, (void)grid, (void)begin, (void)end, (void)scratch, (void)services

static void* pointer(uint64_t slot) { return (void*)(uintptr_t)slot; }

/* out[p] += 1 for each program p: shows programs that ran twice or never. */
GXU_HOST_KERNEL(count, 0, 0, 0, 8)
KERNEL(count) {
  UNUSED;
  int32_t* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) out[p] += 1;
}

/* As count, but declared so small that it must stay on the calling thread; out[n] counts the calls. */
GXU_HOST_KERNEL(count_calls, 0, 0, 1, 8, 8)
KERNEL(count_calls) {
  UNUSED;
  int32_t* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) out[p] += 1;
  out[params[1]] += 1;
}

/* out[3 p ..] = coordinates of program p as the header defines them. */
GXU_HOST_KERNEL(coordinates, 0, 0, 0, 8)
KERNEL(coordinates) {
  UNUSED;
  uint32_t* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) {
    out[3 * p] = (uint32_t)(p % grid->x);
    out[3 * p + 1] = (uint32_t)(p / grid->x % grid->y);
    out[3 * p + 2] = (uint32_t)(p / ((int64_t)grid->x * grid->y));
  }
}

/* Copies its parameter slots to out: every size, and more of them than a record holds inline. */
#define FOUR_SIZES 1, 2, 4, 8
GXU_HOST_KERNEL(show_params, 0, 0, 0, 8, FOUR_SIZES, FOUR_SIZES, FOUR_SIZES, FOUR_SIZES, FOUR_SIZES, FOUR_SIZES,
                FOUR_SIZES, FOUR_SIZES, FOUR_SIZES, FOUR_SIZES)
KERNEL(show_params) {
  UNUSED;
  memcpy(pointer(params[0]), params, 41 * sizeof(uint64_t));
}

/* As show_params, for parameters that a record holds inline: narrow ones and wide ones. */
GXU_HOST_KERNEL(show_narrow, 0, 0, 0, 8, 1, 2, 4)
KERNEL(show_narrow) {
  UNUSED;
  memcpy(pointer(params[0]), params, 4 * sizeof(uint64_t));
}
GXU_HOST_KERNEL(show_wide, 0, 0, 0, 8, 8, 8, 8)
KERNEL(show_wide) {
  UNUSED;
  memcpy(pointer(params[0]), params, 4 * sizeof(uint64_t));
}

/* out = 10 out + digit, on one program: shows the order of launches. */
GXU_HOST_KERNEL(append_digit, 0, 0, 0, 8, 4)
KERNEL(append_digit) {
  UNUSED;
  int64_t* out = pointer(params[0]);
  *out = 10 * *out + (int32_t)params[1];
}

/* Each program waits for the one before it: ends only when programs are handed out in order. */
GXU_HOST_KERNEL(chain, GXU_HOST_KERNEL_ORDERED, 0, 0, 8)
KERNEL(chain) {
  UNUSED;
  int64_t* turn = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) {
    while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) != p) {
    }
    __atomic_store_n(turn, p + 1, __ATOMIC_RELEASE);
  }
}

/* Fills its scratch with the program's number and checks that nobody else wrote there; out[p] = 1 when all is well. */
enum { kScratchBytes = 12345 };
GXU_HOST_KERNEL(use_scratch, 0, kScratchBytes, 0, 8)
KERNEL(use_scratch) {
  UNUSED;
  int32_t* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) {
    memset(scratch, (int)(p & 0xff), kScratchBytes);
    int good = ((uintptr_t)scratch & 63) == 0;
    const volatile uint8_t* bytes = scratch;
    for (int i = 0; i < kScratchBytes; ++i) good &= bytes[i] == (p & 0xff);
    out[p] = good;
  }
}

/* Fails an assertion in program number params[1]; counts all programs that ran. */
GXU_HOST_KERNEL(assert_at, 0, 0, 0, 8, 8)
KERNEL(assert_at) {
  UNUSED;
  int32_t* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) {
    if (p == (int64_t)params[1]) services->assert_fail("index out of bounds: 0 <= tmp4 < 7");
    out[p] += 1;
  }
}

GXU_HOST_KERNEL(hello, 0, 0, 0, 8)
KERNEL(hello) {
  UNUSED;
  services->print("hello from the device");
}

/* out[p] = sin(p): needs libm. */
GXU_HOST_KERNEL(sines, 0, 0, 0, 8)
KERNEL(sines) {
  UNUSED;
  double* out = pointer(params[0]);
  for (int64_t p = begin; p < end; ++p) out[p] = sin((double)p);
}

/* Takes params[0] nanoseconds, then stores 1 through params[1]. */
GXU_HOST_KERNEL(spin, 0, 0, 0, 8, 8)
KERNEL(spin) {
  UNUSED;
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000000000LL + now.tv_nsec - start.tv_nsec < (int64_t)params[0]);
  __atomic_store_n((int32_t*)pointer(params[1]), 1, __ATOMIC_RELEASE);
}

/* Takes params[0] nanoseconds, then prints. */
GXU_HOST_KERNEL(late_hello, 0, 0, 0, 8)
KERNEL(late_hello) {
  int32_t done;
  const uint64_t spin_params[2] = {params[0], (uint64_t)(uintptr_t)&done};
  spin(spin_params, grid, begin, end, scratch, services);
  services->print("hello from the device");
}

static int64_t use_stack(int64_t depth) {
  volatile char page[4096];
  page[0] = (char)depth;
  return depth < 0 ? 0 : use_stack(depth + 1) + page[0];
}

/* Stopped by the hardware in program 3: params[0] says how; for 0, params[1] must be a bad address. */
GXU_HOST_KERNEL(fault, 0, 0, 0, 4, 8)
KERNEL(fault) {
  UNUSED;
  int64_t* out = pointer(params[1]);
  volatile int32_t zero = 0;
  for (int64_t p = begin; p < end; ++p) {
    if (p != 3) continue;
    switch ((int32_t)params[0]) {
      case 0:
        *out = 1;
        break;
      case 1:
        out[0] = use_stack(0);
        break;
      case 2:
        out[0] = 7 / zero;
        break;
      default:
        __builtin_trap();
    }
  }
}

/* Program 0 ends early, and the others wait for it: params[0] is 0 for a fault, 1 for a failed assertion. */
GXU_HOST_KERNEL(never_comes, GXU_HOST_KERNEL_ORDERED, 0, 0, 4, 8)
KERNEL(never_comes) {
  UNUSED;
  for (int64_t p = begin; p < end; ++p) {
    if (p != 0) {
      while (__atomic_load_n((int32_t*)pointer(params[1]), __ATOMIC_ACQUIRE) == 0) {
      }
    } else if (params[0] == 0) {
      *(volatile int32_t*)pointer(params[1] & 8) = 1;
    } else {
      services->assert_fail("program 0 gave up");
      return;
    }
  }
}

/* out[0] += 1 for each program, out[1] += 1 for each call that is alone: plainly where the engine says so. One thread
   that is alone is said to be faster than three, and not to be faster than any team. */
GXU_HOST_KERNEL(add_atomically, GXU_HOST_KERNEL_ATOMICS | GXU_HOST_KERNEL_ALONE(3), 0, 0, 8)
KERNEL(add_atomically) {
  UNUSED;
  int32_t* out = pointer(params[0]);
  const int alone = services->struct_size >= sizeof(gxuHostServices) && services->alone != 0;
  for (int64_t p = begin; p < end; ++p) {
    if (alone) {
      out[0] += 1;
    } else {
      __atomic_fetch_add(out, 1, __ATOMIC_RELAXED);
    }
  }
  if (alone) out[1] += 1;
}
GXU_HOST_KERNEL(add_together, GXU_HOST_KERNEL_ATOMICS, 0, 0, 8)
KERNEL(add_together) { add_atomically(params, grid, begin, end, scratch, services); }
/* Waits for its own programs: never alone. */
GXU_HOST_KERNEL(add_in_order, GXU_HOST_KERNEL_ATOMICS | GXU_HOST_KERNEL_ORDERED | GXU_HOST_KERNEL_ALONE(255), 0, 0, 8)
KERNEL(add_in_order) { add_atomically(params, grid, begin, end, scratch, services); }

/* Kernels that must be refused. */
KERNEL(no_info) { UNUSED; }

KERNEL(old_version) { UNUSED; }
GXU_HOST_KERNEL_EXPORT const uint64_t old_version_gxu_info[5] = {GXU_HOST_KERNEL_VERSION + 41, 0, 0, 0, 0};

GXU_HOST_KERNEL(bad_size, 0, 0, 0, 8, 3)
KERNEL(bad_size) { UNUSED; }

GXU_HOST_KERNEL(bad_flags, 64, 0, 0, 8)
KERNEL(bad_flags) { UNUSED; }

GXU_HOST_KERNEL(huge_scratch, 0, UINT64_MAX, 0, 8)
KERNEL(huge_scratch) { UNUSED; }

GXU_HOST_KERNEL_EXPORT const uint64_t only_info_gxu_info[5] = {GXU_HOST_KERNEL_VERSION, 0, 0, 0, 0};
