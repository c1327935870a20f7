/*
 * gxu_host_kernel.h: what a kernel image for the host engine looks like.
 *
 * An image is an ELF shared object for the machine's CPU without undefined symbols beyond libm and libc. A kernel `k`
 * is two exported symbols: the function `k` (gxuHostKernel) and the constant `k_gxu_info` (gxuHostKernelInfo).
 */
#ifndef GXU_HOST_KERNEL_H_
#define GXU_HOST_KERNEL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GXU_HOST_KERNEL_VERSION 1

enum {
  /* Programs wait for one another: they are handed out one at a time, in order of their number, so that a program
     that waits for a lower number always sees it finish. */
  GXU_HOST_KERNEL_ORDERED = 1,
};

typedef struct gxuHostGrid {
  uint32_t x, y, z;
} gxuHostGrid;

/* What a kernel may call back; passed by pointer, so that an image needs no relocation against the engine. */
typedef struct gxuHostServices {
  uint32_t struct_size;
  /* Reports a failed device assertion; the launch then ends with gxuErrorLaunchFailed and this message. */
  void (*assert_fail)(const char *message);
  /* One line of device_print. */
  void (*print)(const char *text);
} gxuHostServices;

/*
 * Runs programs [begin, end) of the grid in order. Program p has the coordinates (p % x, p / x % y, p / (x * y)).
 *   params   one 8-byte slot a parameter, the value in the slot's first bytes
 *   scratch  scratch_bytes of 64-byte aligned memory that belongs to the calling worker for the call; not zeroed
 */
typedef void (*gxuHostKernel)(const uint64_t *params, const gxuHostGrid *grid, int64_t begin, int64_t end,
                              void *scratch, const gxuHostServices *services);

typedef struct gxuHostKernelInfo {
  uint32_t version; /* GXU_HOST_KERNEL_VERSION */
  uint32_t flags;
  uint64_t scratch_bytes;
  uint64_t work_per_program; /* estimate, in scalar operations; 0: unknown. Small launches stay on one thread. */
  uint32_t num_params;
  uint8_t param_sizes[]; /* bytes of each parameter: 1, 2, 4 or 8 */
} gxuHostKernelInfo;

#ifdef __cplusplus
}
#endif
#endif /* GXU_HOST_KERNEL_H_ */
