/*
 * A whole program on the gxu runtime in plain C99: gxu_runtime.h and the library, nothing else.
 *
 *   diffusion KERNEL.so [STEPS]
 *
 * Puts one hot cell into a cold volume, runs STEPS diffusion steps on the device, and checks the result against the
 * same steps computed here.
 */
#include <gxu_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 37, HEIGHT = 19, DEPTH = 11, CELLS = WIDTH * HEIGHT * DEPTH, BLOCK = 16 };
static const float kRate = 0.1f;

static void check(gxuError_t error, const char* what) {
  if (error != gxuSuccess) {
    fprintf(stderr, "%s: %s: %s\n", what, gxuGetErrorName(error), gxuGetLastErrorMessage());
    exit(1);
  }
}
#define CHECK(call) check((call), #call)

static float cell(const float* volume, int x, int y, int z, float outside) {
  if (x < 0 || y < 0 || z < 0 || x >= WIDTH || y >= HEIGHT || z >= DEPTH) return outside;
  return volume[(z * HEIGHT + y) * WIDTH + x];
}

/* The kernel's arithmetic, one cell after the other. */
static void diffuse_here(float* out, const float* in) {
  for (int z = 0; z < DEPTH; ++z) {
    for (int y = 0; y < HEIGHT; ++y) {
      for (int x = 0; x < WIDTH; ++x) {
        const float here = cell(in, x, y, z, 0.0f);
        const float around = cell(in, x - 1, y, z, here) + cell(in, x + 1, y, z, here) + cell(in, x, y - 1, z, here) +
                             cell(in, x, y + 1, z, here) + cell(in, x, y, z - 1, here) + cell(in, x, y, z + 1, here);
        out[(z * HEIGHT + y) * WIDTH + x] = here + kRate * (around - 6.0f * here);
      }
    }
  }
}

static void swap(void** a, void** b) {
  void* other = *a;
  *a = *b;
  *b = other;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s KERNEL.so [STEPS]\n", argv[0]);
    return 2;
  }
  const int steps = argc > 2 ? atoi(argv[2]) : 20;

  /* The library must be of the header's major version and not older. */
  int version = 0;
  CHECK(gxuGetVersion(&version));
  if (version / 1000 != GXU_ABI_VERSION / 1000 || version < GXU_ABI_VERSION) {
    fprintf(stderr, "the runtime library has ABI version %d, this program wants %d\n", version, GXU_ABI_VERSION);
    return 1;
  }
  CHECK(gxuInit(0));
  gxuDeviceProperties properties;
  properties.struct_size = sizeof(properties);
  CHECK(gxuGetDeviceProperties(&properties, 0));
  printf("device: %s, %.1f GiB\n", properties.name, (double)properties.total_memory / (1024.0 * 1024.0 * 1024.0));

  gxuModule_t module;
  gxuFunction_t diffuse;
  gxuStream_t stream;
  gxuEvent_t start, stop;
  CHECK(gxuModuleLoad(&module, argv[1]));
  CHECK(gxuModuleGetFunction(&diffuse, module, "diffuse"));
  CHECK(gxuStreamCreate(&stream, gxuStreamNonBlocking, 0));
  CHECK(gxuEventCreate(&start, gxuEventDefault));
  CHECK(gxuEventCreate(&stop, gxuEventDefault));

  const size_t bytes = CELLS * sizeof(float);
  float* host = malloc(bytes);
  float* expected = malloc(bytes);
  float* next = malloc(bytes);
  if (host == NULL || expected == NULL || next == NULL) return 1;
  memset(host, 0, bytes);
  host[((DEPTH / 2) * HEIGHT + HEIGHT / 2) * WIDTH + WIDTH / 2] = 1000.0f;
  memcpy(expected, host, bytes);

  void *now, *after;
  CHECK(gxuMalloc(&now, bytes));
  CHECK(gxuMalloc(&after, bytes));
  CHECK(gxuMemcpyAsync(now, host, bytes, gxuMemcpyHostToDevice, stream));
  CHECK(gxuMemsetAsync(after, 0xff, bytes, stream));

  int width = WIDTH, height = HEIGHT, depth = DEPTH;
  float rate = kRate;
  CHECK(gxuEventRecord(start, stream));
  for (int step = 0; step < steps; ++step) {
    void* params[] = {&after, &now, &width, &height, &depth, &rate};
    CHECK(gxuLaunchKernel(diffuse, (WIDTH + BLOCK - 1) / BLOCK, HEIGHT, DEPTH, 32, 1, 1, 0, stream, params));
    swap(&now, &after); /* the launch has copied its parameters */
  }
  CHECK(gxuEventRecord(stop, stream));
  CHECK(gxuMemcpyAsync(host, now, bytes, gxuMemcpyDeviceToHost, stream)); /* pageable memory: waits */
  float milliseconds = 0.0f;
  CHECK(gxuEventElapsedTime(&milliseconds, start, stop));

  for (int step = 0; step < steps; ++step) {
    diffuse_here(next, expected);
    float* other = expected;
    expected = next;
    next = other;
  }
  double heat = 0.0, difference = 0.0;
  for (int i = 0; i < CELLS; ++i) {
    heat += host[i];
    /* A NaN must not compare as small. */
    const double d = fabs((double)host[i] - (double)expected[i]);
    if (!(d <= difference)) difference = d;
  }
  printf("%d steps on %d x %d x %d cells in %.3f ms: heat %.3f of 1000, largest difference %g\n", steps, WIDTH, HEIGHT,
         DEPTH, milliseconds, heat, difference);

  CHECK(gxuFree(now));
  CHECK(gxuFree(after));
  CHECK(gxuEventDestroy(start));
  CHECK(gxuEventDestroy(stop));
  CHECK(gxuStreamDestroy(stream));
  CHECK(gxuModuleUnload(module));
  free(host);
  free(expected);
  free(next);
  return difference <= 1e-3 && fabs(heat - 1000.0) < 0.1 ? 0 : 1;
}
