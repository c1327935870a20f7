/*
 * A stand-in for libcuda.so.1, for tests on machines without a GPU: the driver functions that the cuda engine uses, on
 * host memory, every stream executed by a thread of its own. This is what tests see of it; it is never shipped.
 *
 * Environment, read by cuInit: FAKE_CUDA_DEVICES (default 2), FAKE_CUDA_MEMORY (bytes of each, default 64 MiB) and
 * FAKE_CUDA_FAIL, "FUNCTION:RESULT[:SKIP[:COUNT]],...", which is fakeCudaFail for each.
 */
#ifndef FAKE_CUDA_CONTROL_H_
#define FAKE_CUDA_CONTROL_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From here on `function` lets `skip` calls pass and gives `result` (a CUresult) to the next `count`. */
void fakeCudaFail(const char* function, int result, int skip, int count);
/* Forgets what fakeCudaFail and fakeCudaDelayEvents asked for, and the launches. Sticky errors stay. */
void fakeCudaReset(void);
/* Calls of `function` since the process started. */
int fakeCudaCalls(const char* function);
/* Every event that is recorded from here on is reached this much later. */
void fakeCudaDelayEvents(int microseconds);

#define FAKE_CUDA_MAX_PARAMS 32

/* A kernel that has run. */
typedef struct FakeCudaLaunch {
  char name[128];
  uint32_t grid[3], block[3], shared_memory_bytes;
  uint32_t cluster_width; /* 1: no clusters */
  uint32_t cooperative, programmatic_serialization;
  int32_t device;
  uint32_t num_params;
  uint32_t param_sizes[FAKE_CUDA_MAX_PARAMS];
  uint64_t params[FAKE_CUDA_MAX_PARAMS]; /* the first bytes of each, the rest 0 */
  void (*fail)(int result);              /* for kernels: they fail with this CUresult */
} FakeCudaLaunch;

int fakeCudaLaunchCount(void);
/* The launch number `index`; 0 when there is none. */
int fakeCudaGetLaunch(int index, FakeCudaLaunch* launch);

/*
 * Kernel images. A shared object of the host with, for each kernel `k`, the function
 *   void k(const FakeCudaLaunch* launch, void** params);    runs the whole grid
 * and the sizes of its parameters, ended by a 0:
 *   const uint32_t k_params[];
 * is loaded and run. A real cubin is loaded too: its launches are checked and written down, and compute nothing.
 */

#ifdef __cplusplus
}
#endif
#endif /* FAKE_CUDA_CONTROL_H_ */
