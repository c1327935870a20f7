/*
 * gxu_runtime.h: the contract between PyTorch's `gxu` device and an accelerator's runtime library.
 *
 * Names and meanings follow the CUDA driver API, so that a vendor recognises them.
 */
#ifndef GXU_RUNTIME_H_
#define GXU_RUNTIME_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GXU_API __declspec(dllexport)
#else
#define GXU_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Major * 1000 + minor. A client works with a library of the same major and an equal or newer minor. */
#define GXU_ABI_VERSION 1000

typedef enum gxuError_t {
  gxuSuccess = 0,
  gxuErrorInvalidValue = 1,
  gxuErrorOutOfMemory = 2,
  gxuErrorNotInitialized = 3,
  gxuErrorDeinitialized = 4,
  gxuErrorNoDevice = 100,
  gxuErrorInvalidDevice = 101,
  gxuErrorInvalidImage = 200,
  gxuErrorFileNotFound = 301,
  gxuErrorSharedObjectInitFailed = 303,
  gxuErrorInvalidHandle = 400,
  gxuErrorNotFound = 500,
  gxuErrorNotReady = 600,
  gxuErrorLaunchFailed = 719,
  gxuErrorForked = 720,
  gxuErrorNotPermitted = 800,
  gxuErrorNotSupported = 801,
  gxuErrorStreamCaptureUnsupported = 900,
  gxuErrorStreamCaptureInvalidated = 901,
  gxuErrorStreamCaptureUnmatched = 903,
  gxuErrorUnknown = 999,
} gxuError_t;

typedef struct gxuStream_st *gxuStream_t; /* NULL: the default stream of the current device */
typedef struct gxuEvent_st *gxuEvent_t;
typedef struct gxuModule_st *gxuModule_t;
typedef struct gxuFunction_st *gxuFunction_t;
typedef struct gxuGraph_st *gxuGraph_t;
typedef struct gxuGraphExec_st *gxuGraphExec_t;

/* Grows only at its end; struct_size is set by the caller before gxuGetDeviceProperties. */
typedef struct gxuDeviceProperties {
  uint32_t struct_size;
  char name[128];
  char uuid[40];
  char triton_backend[32]; /* GPUTarget.backend: "gxu", "cuda", ... */
  char triton_arch[32];    /* GPUTarget.arch: decimal number or text */
  char delegate[16];       /* PyTorch device type that reaches this memory: "cpu", "cuda" or "" */
  int32_t major, minor;    /* compute capability */
  uint64_t total_memory;   /* bytes */
  int32_t multi_processor_count;
  int32_t warp_size;
  int32_t max_threads_per_block;
  int32_t max_threads_per_multi_processor;
  int32_t regs_per_multiprocessor;
  uint64_t shared_memory_per_block;          /* bytes */
  uint64_t shared_memory_per_multiprocessor; /* bytes */
  uint64_t L2_cache_size;                    /* bytes */
  uint64_t L1_cache_size;                    /* bytes, per compute unit */
  int32_t max_grid_size;       /* programs a grid is best at most, or a multiple of; 0: no preference */
  int32_t preferred_num_warps; /* 0: no preference */
  int32_t vector_bytes;        /* width of one vector register; 0: not meaningful */
  int32_t host_accessible;     /* 1: the CPU may dereference device pointers */
  int32_t concurrent_kernels;  /* 1: kernels of two streams may run at the same time */
  int32_t clock_rate_khz;
} gxuDeviceProperties;

typedef enum gxuMemcpyKind {
  gxuMemcpyHostToHost = 0,
  gxuMemcpyHostToDevice = 1,
  gxuMemcpyDeviceToHost = 2,
  gxuMemcpyDeviceToDevice = 3,
  gxuMemcpyDefault = 4,
} gxuMemcpyKind;

typedef enum gxuMemoryType {
  gxuMemoryTypeUnregistered = 0,
  gxuMemoryTypeHost = 1, /* pinned, from gxuMallocHost */
  gxuMemoryTypeDevice = 2,
} gxuMemoryType;

typedef struct gxuPointerAttributes {
  gxuMemoryType type;
  int32_t device;
  void *base;  /* start of the allocation that holds the pointer */
  size_t size; /* bytes of that allocation */
} gxuPointerAttributes;

typedef enum gxuFunctionAttribute {
  gxuFuncAttributeMaxDynamicSharedMemorySize = 8,
} gxuFunctionAttribute;

enum { gxuStreamDefault = 0, gxuStreamNonBlocking = 1 };
enum { gxuEventDefault = 0, gxuEventBlockingSync = 1, gxuEventDisableTiming = 2, gxuEventInterprocess = 4 };
typedef enum gxuStreamCaptureStatus {
  gxuStreamCaptureStatusNone = 0,
  gxuStreamCaptureStatusActive = 1,
  gxuStreamCaptureStatusInvalidated = 2,
} gxuStreamCaptureStatus;

typedef void (*gxuHostFn_t)(void *user_data);

/* Version, start, errors. gxuGetVersion works before gxuInit and in every version of the library. */
GXU_API gxuError_t gxuGetVersion(int *version);
GXU_API gxuError_t gxuInit(unsigned int flags);
GXU_API const char *gxuGetErrorName(gxuError_t error);
GXU_API const char *gxuGetErrorString(gxuError_t error);
GXU_API gxuError_t gxuGetLastError(void);
GXU_API gxuError_t gxuPeekAtLastError(void);
GXU_API const char *gxuGetLastErrorMessage(void); /* detail of this thread's last error, never NULL */

/* Devices */
GXU_API gxuError_t gxuGetDeviceCount(int *count);
GXU_API gxuError_t gxuGetDevice(int *device);
GXU_API gxuError_t gxuSetDevice(int device);
GXU_API gxuError_t gxuGetDeviceProperties(gxuDeviceProperties *properties, int device);
GXU_API gxuError_t gxuDeviceSynchronize(void);
GXU_API gxuError_t gxuDeviceCanAccessPeer(int *can_access, int device, int peer);

/* Memory */
GXU_API gxuError_t gxuMalloc(void **pointer, size_t size);
GXU_API gxuError_t gxuFree(void *pointer);
GXU_API gxuError_t gxuMallocHost(void **pointer, size_t size);
GXU_API gxuError_t gxuFreeHost(void *pointer);
GXU_API gxuError_t gxuMemGetInfo(size_t *free, size_t *total);
GXU_API gxuError_t gxuPointerGetAttributes(gxuPointerAttributes *attributes, const void *pointer);
GXU_API gxuError_t gxuMemcpyAsync(void *dst, const void *src, size_t size, gxuMemcpyKind kind, gxuStream_t stream);
GXU_API gxuError_t gxuMemsetAsync(void *dst, int value, size_t size, gxuStream_t stream);

/* Streams */
GXU_API gxuError_t gxuStreamCreate(gxuStream_t *stream, unsigned int flags, int priority);
GXU_API gxuError_t gxuStreamDestroy(gxuStream_t stream);
GXU_API gxuError_t gxuStreamSynchronize(gxuStream_t stream);
GXU_API gxuError_t gxuStreamQuery(gxuStream_t stream);
GXU_API gxuError_t gxuStreamWaitEvent(gxuStream_t stream, gxuEvent_t event, unsigned int flags);
GXU_API gxuError_t gxuStreamGetPriorityRange(int *least, int *greatest);
GXU_API gxuError_t gxuLaunchHostFunc(gxuStream_t stream, gxuHostFn_t function, void *user_data);

/* Events */
GXU_API gxuError_t gxuEventCreate(gxuEvent_t *event, unsigned int flags);
GXU_API gxuError_t gxuEventDestroy(gxuEvent_t event);
GXU_API gxuError_t gxuEventRecord(gxuEvent_t event, gxuStream_t stream);
GXU_API gxuError_t gxuEventQuery(gxuEvent_t event);
GXU_API gxuError_t gxuEventSynchronize(gxuEvent_t event);
GXU_API gxuError_t gxuEventElapsedTime(float *milliseconds, gxuEvent_t start, gxuEvent_t end);

/* Modules and launches */
GXU_API gxuError_t gxuModuleLoad(gxuModule_t *module, const char *file_name);
GXU_API gxuError_t gxuModuleLoadData(gxuModule_t *module, const void *image, size_t size);
GXU_API gxuError_t gxuModuleUnload(gxuModule_t module);
GXU_API gxuError_t gxuModuleGetFunction(gxuFunction_t *function, gxuModule_t module, const char *name);
GXU_API gxuError_t gxuFuncSetAttribute(gxuFunction_t function, gxuFunctionAttribute attribute, int value);
GXU_API gxuError_t gxuLaunchKernel(gxuFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                   unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                   unsigned int block_z, unsigned int shared_memory_bytes, gxuStream_t stream,
                                   void **kernel_params);

/* Graph capture and replay */
GXU_API gxuError_t gxuStreamBeginCapture(gxuStream_t stream);
GXU_API gxuError_t gxuStreamEndCapture(gxuStream_t stream, gxuGraph_t *graph);
GXU_API gxuError_t gxuStreamIsCapturing(gxuStream_t stream, gxuStreamCaptureStatus *status);
GXU_API gxuError_t gxuGraphInstantiate(gxuGraphExec_t *exec, gxuGraph_t graph);
GXU_API gxuError_t gxuGraphLaunch(gxuGraphExec_t exec, gxuStream_t stream);
GXU_API gxuError_t gxuGraphExecDestroy(gxuGraphExec_t exec);
GXU_API gxuError_t gxuGraphDestroy(gxuGraph_t graph);

/* Interprocess memory */
typedef struct gxuIpcMemHandle_t { char reserved[64]; } gxuIpcMemHandle_t;
GXU_API gxuError_t gxuIpcGetMemHandle(gxuIpcMemHandle_t *handle, void *pointer);
GXU_API gxuError_t gxuIpcOpenMemHandle(void **pointer, gxuIpcMemHandle_t handle);
GXU_API gxuError_t gxuIpcCloseMemHandle(void *pointer);

#ifdef __cplusplus
}
#endif
#endif /* GXU_RUNTIME_H_ */
