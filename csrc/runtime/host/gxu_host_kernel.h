/*
 * gxu_host_kernel.h: what a kernel image for the host engine looks like.
 *
 * An image is an ELF shared object for the machine's CPU without undefined symbols beyond libm and libc. A kernel `k`
 * is two exported symbols: the function `k` (gxuHostKernel) and the constant `k_gxu_info` (gxuHostKernelInfo). An image
 * may hold any number of kernels. Compilers write both symbols themselves; in C,
 *
 *     GXU_HOST_KERNEL(scale, 0, 0, 1, 8, 4)
 *     GXU_HOST_KERNEL_EXPORT void scale(const uint64_t *params, const gxuHostGrid *grid, int64_t begin, int64_t end,
 *                                       void *scratch, const gxuHostServices *services) { ... }
 *
 * makes a kernel with a pointer and a 4-byte parameter, built with `cc -shared -fPIC`.
 */
#ifndef GXU_HOST_KERNEL_H_
#define GXU_HOST_KERNEL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when an image of an older version could misbehave; the engine refuses images of any other version. */
#define GXU_HOST_KERNEL_VERSION 1

enum {
  /* Programs wait for one another: they are handed out one at a time, in order of their number, so that a program
     that waits for a lower number always sees it finish. When one fails, all of them are stopped where they are. */
  GXU_HOST_KERNEL_ORDERED = 1,
  /* The kernel does atomic operations on the device's memory: see `alone` in gxuHostServices. Kernels without this flag
     are not kept from running beside one that is alone. */
  GXU_HOST_KERNEL_ATOMICS = 2,
  /* With GXU_HOST_KERNEL_ATOMICS, GXU_HOST_KERNEL_ALONE(n) for n from 0 to 255: one thread that is alone is faster
     than a team of up to n threads, because locked instructions are most of the kernel's time. */
  GXU_HOST_KERNEL_ALONE_SHIFT = 8,
  GXU_HOST_KERNEL_ALONE_MASK = 0xff << GXU_HOST_KERNEL_ALONE_SHIFT
};
#define GXU_HOST_KERNEL_ALONE(threads) ((threads) << GXU_HOST_KERNEL_ALONE_SHIFT)

/* The grid of the launch, in programs. */
typedef struct gxuHostGrid {
  uint32_t x, y, z;
} gxuHostGrid;

/* What a kernel does to memory at one place of its source; see check_accesses. */
typedef enum gxuHostAccessKind {
  GXU_HOST_ACCESS_LOAD = 0,
  GXU_HOST_ACCESS_STORE = 1,
  GXU_HOST_ACCESS_ATOMIC = 2,
  GXU_HOST_ACCESS_INDEX = 3 /* not memory: an index into a tile */
} gxuHostAccessKind;

typedef struct gxuHostAccess {
  const char* location; /* "file:line" */
  int32_t kind;         /* gxuHostAccessKind */
  int32_t lanes;        /* accesses that a call checks */
  uint64_t bytes;       /* of each; for GXU_HOST_ACCESS_INDEX the number of elements */
} gxuHostAccess;

/* What a kernel may call back; passed by pointer, so that an image needs no relocation against the engine. The
   functions may be called from any program, by several threads at once. */
typedef struct gxuHostServices {
  uint32_t struct_size; /* bytes of this struct in the engine; members beyond it do not exist */
  /* Reports a failed device assertion: a null-terminated text that is copied. It returns, and the kernel goes on or
     returns early as it likes. The next synchronising call on the device gives gxuErrorLaunchFailed with the kernel's
     name and the first text reported. */
  void (*assert_fail)(const char* message);
  /* Writes the text and a line end to the process's standard output, whole lines at a time. */
  void (*print)(const char* text);
  /* For kernels that are compiled with checks of their accesses. Clears wanted[i] where [addresses[i], addresses[i] +
     bytes) was not allocated when the kernel was launched, or where it was, but `origin` (a pointer of the kernel's
     parameters that the addresses were computed from, or NULL) points into another allocation. The first such access
     becomes the device's failure, as that of assert_fail. Does nothing unless the engine runs with GXU_SANITIZE=1. */
  void (*check_accesses)(const gxuHostAccess* access, int64_t program, const void* origin, const uint64_t* addresses,
                         uint8_t* wanted);
  /* For kernels with GXU_HOST_KERNEL_ATOMICS: whether this call is the only one that runs of all kernels with that flag
     in the process. Then an atomic operation need not be atomic, except against other threads of the host. */
  uint32_t alone;
} gxuHostServices;

/*
 * Runs programs [begin, end) of the grid in order. Program p has the coordinates (p % x, p / x % y, p / (x * y)).
 * Called by several threads at once with ranges that do not overlap.
 *   params   one 8-byte slot a parameter, the value in the slot's first bytes, the rest zero; the same for all calls
 *   scratch  scratch_bytes of 64-byte aligned memory that belongs to the calling thread for the call; not zeroed,
 *            NULL when scratch_bytes is 0
 */
typedef void (*gxuHostKernel)(const uint64_t* params, const gxuHostGrid* grid, int64_t begin, int64_t end,
                              void* scratch, const gxuHostServices* services);

typedef struct gxuHostKernelInfo {
  uint32_t version;          /* GXU_HOST_KERNEL_VERSION */
  uint32_t flags;            /* GXU_HOST_KERNEL_ORDERED, ...; 0: none */
  uint64_t scratch_bytes;    /* per thread; at most 4 GiB */
  uint64_t work_per_program; /* estimate, in scalar operations; 0: unknown. Small launches stay on one thread. */
  uint32_t num_params;       /* at most 4096 */
  uint8_t param_sizes[];     /* bytes of each parameter: 1, 2, 4 or 8 */
} gxuHostKernelInfo;

#define GXU_HOST_KERNEL_EXPORT __attribute__((visibility("default")))

/* Defines `name_gxu_info`; the arguments after `work` are the parameters' sizes. For C; at least one parameter. */
#define GXU_HOST_KERNEL(name, kernel_flags, scratch, work, ...)                             \
  GXU_HOST_KERNEL_EXPORT const struct {                                                     \
    uint32_t version, flags;                                                                \
    uint64_t scratch_bytes, work_per_program;                                               \
    uint32_t num_params;                                                                    \
    uint8_t param_sizes[sizeof((uint8_t[]){__VA_ARGS__})];                                  \
  } name##_gxu_info = {GXU_HOST_KERNEL_VERSION,          (kernel_flags), (scratch), (work), \
                       sizeof((uint8_t[]){__VA_ARGS__}), {__VA_ARGS__}};

#ifdef __cplusplus
}
#endif
#endif /* GXU_HOST_KERNEL_H_ */
