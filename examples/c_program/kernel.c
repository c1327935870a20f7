/*
 * A kernel for the host engine, written by hand: one step of heat diffusion on a volume.
 *
 * Grid (ceil(width / BLOCK), height, depth): a program computes BLOCK neighbouring cells of one row.
 */
#include "gxu_host_kernel.h"

enum { BLOCK = 16 };

/* Parameters: out, in (float volumes), width, height, depth (cells), rate. */
GXU_HOST_KERNEL(diffuse, 0, 0, 8 * BLOCK, 8, 8, 4, 4, 4, 4)

static float slot_as_float(uint64_t slot) {
  union {
    uint32_t bits;
    float value;
  } convert;
  convert.bits = (uint32_t)slot;
  return convert.value;
}

GXU_HOST_KERNEL_EXPORT void diffuse(const uint64_t* params, const gxuHostGrid* grid, int64_t begin, int64_t end,
                                    void* scratch, const gxuHostServices* services) {
  float* out = (float*)(uintptr_t)params[0];
  const float* in = (const float*)(uintptr_t)params[1];
  const int64_t width = (int32_t)params[2], height = (int32_t)params[3], depth = (int32_t)params[4];
  const float rate = slot_as_float(params[5]);
  (void)scratch;
  (void)services;
  for (int64_t program = begin; program < end; ++program) {
    const int64_t x0 = program % grid->x * BLOCK;
    const int64_t y = program / grid->x % grid->y;
    const int64_t z = program / ((int64_t)grid->x * grid->y);
    for (int64_t x = x0; x < x0 + BLOCK && x < width; ++x) {
      const int64_t i = (z * height + y) * width + x;
      /* Cells outside the volume are as warm as the cell itself: no heat leaves. */
      const float here = in[i];
      const float left = x > 0 ? in[i - 1] : here, right = x + 1 < width ? in[i + 1] : here;
      const float up = y > 0 ? in[i - width] : here, down = y + 1 < height ? in[i + width] : here;
      const float front = z > 0 ? in[i - width * height] : here;
      const float back = z + 1 < depth ? in[i + width * height] : here;
      out[i] = here + rate * (left + right + up + down + front + back - 6.0f * here);
    }
  }
}
