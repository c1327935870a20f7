/* The kernels of gxu-abi-test for the host engine; each appends params[1] to the decimal number out[program]. */
#include "gxu_host_kernel.h"

#define KERNEL(name)                                                                                            \
  GXU_HOST_KERNEL(name, 0, 0, 0, 8, 4)                                                                          \
  GXU_HOST_KERNEL_EXPORT void name(const uint64_t* params, const gxuHostGrid* grid, int64_t begin, int64_t end, \
                                   void* scratch, const gxuHostServices* services)

static void append(const uint64_t* params, int64_t begin, int64_t end) {
  int32_t* out = (int32_t*)(uintptr_t)params[0];
  for (int64_t p = begin; p < end; ++p) out[p] = 10 * out[p] + (int32_t)params[1];
}

KERNEL(append_digit) {
  (void)grid, (void)scratch, (void)services;
  append(params, begin, end);
}

KERNEL(fail_assertion) {
  (void)grid, (void)scratch;
  services->assert_fail("this assertion always fails");
  append(params, begin, end);
}

/* As GXU_HOST_KERNEL would define it, which wants a parameter. */
GXU_HOST_KERNEL_EXPORT const struct {
  uint32_t version, flags;
  uint64_t scratch_bytes, work_per_program;
  uint32_t num_params;
  uint8_t param_sizes[1];
} do_nothing_gxu_info = {GXU_HOST_KERNEL_VERSION, 0, 0, 0, 0, {0}};

GXU_HOST_KERNEL_EXPORT void do_nothing(const uint64_t* params, const gxuHostGrid* grid, int64_t begin, int64_t end,
                                       void* scratch, const gxuHostServices* services) {
  (void)params, (void)grid, (void)begin, (void)end, (void)scratch, (void)services;
}

KERNEL(write_to_bad_address) {
  (void)params, (void)grid, (void)begin, (void)end, (void)scratch, (void)services;
  const volatile uintptr_t bad_address = 64; /* volatile: so that the compiler does not judge it */
  *(volatile int32_t*)bad_address = 1;
}
