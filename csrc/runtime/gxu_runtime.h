/*
 * gxu_runtime.h: the contract between PyTorch's `gxu` device and an accelerator's runtime library.
 *
 * A vendor implements these functions in one shared library (C linkage, default visibility) on top of its driver; the
 * PyTorch extension, the Triton driver and everything else above reach the hardware through them alone. Names and
 * meanings follow the CUDA runtime and driver APIs. Where a comment says "host engine" it describes the bundled library
 * libgxu_runtime_host.so and does not bind others.
 *
 * VERSIONS. GXU_ABI_VERSION is what this header describes. A client calls gxuGetVersion first and accepts a library of
 * the same major version (version / 1000) and an equal or newer minor. Within a major version functions, error codes,
 * flags and properties are only added, never changed or removed; structs grow only at their end, and those that may
 * grow carry their size.
 *
 * START. gxuInit once per process, from any thread, before anything else. Before it every function gives
 * gxuErrorNotInitialized, except gxuGetVersion and the functions about errors.
 *
 * THREADS. Every function may be called from any thread at any time. Two things belong to the calling thread: its
 * current device (0 at first) and its last error. Handles and pointers belong to the process. Using an object while
 * another thread destroys it is the caller's error.
 *
 * HANDLES are opaque: not to be dereferenced, compared only for equality. A NULL gxuStream_t is the default stream of
 * the calling thread's current device; other handles have no NULL meaning. The host engine finds destroyed and made-up
 * handles and gives gxuErrorInvalidHandle; other libraries may not.
 *
 * STREAMS AND ORDER. Work on one stream executes in the order of the calls that enqueued it. Work on two streams may
 * overlap unless events order it. Functions that enqueue return before the work is done, and the work makes progress
 * without any further call (host engine: a thread that waits for the work executes it at once; work that nobody waits
 * for starts within milliseconds). "Enqueues" below means exactly this; a call that enqueues may block while the
 * stream's queue is full (host engine: 1024 pieces of work). A stream created with gxuStreamDefault is also ordered
 * with its device's default stream: work on either waits for the work that was on the other before it. One created with
 * gxuStreamNonBlocking is not.
 * Memory that enqueued work uses must stay allocated until that work is done.
 *
 * ERRORS. Every function that can fail returns gxuError_t; gxuSuccess is 0. Output arguments are meaningful only after
 * gxuSuccess. A failing call changes nothing but the thread's last error, which gxuGetLastError returns and clears, and
 * whose message (gxuGetLastErrorMessage) says what was asked, what was found and what to do. gxuErrorNotReady is an
 * answer, not an error: it is returned but not remembered.
 * Any function may also give: gxuErrorInvalidValue for a NULL pointer where a result or text is expected,
 * gxuErrorNotInitialized, gxuErrorForked, gxuErrorDeinitialized, gxuErrorUnknown.
 *
 * FAILED KERNELS. A kernel that fails while it runs (a device assertion) does not fail the call that launched it. The
 * next synchronising call on its device, from any thread, gives gxuErrorLaunchFailed with the kernel's name and the
 * assertion's text, after it has waited. Synchronising calls are gxuDeviceSynchronize, gxuStreamSynchronize,
 * gxuEventSynchronize and gxuMemcpyAsync with pageable host memory. The failure is reported once; when several kernels
 * failed, the first. The host engine executes later work as usual and remains usable after the report. A kernel that
 * the hardware stops (host engine: SIGSEGV, SIGBUS, SIGFPE, SIGILL) may have written anywhere: from then on kernels do
 * not run any more, and gxuMalloc, gxuLaunchKernel, gxuMemcpyAsync, gxuMemsetAsync and every synchronising call on the
 * device give gxuErrorLaunchFailed for as long as the process lives.
 *
 * FORK. After gxuInit, a child made by fork() without exec gets gxuErrorForked from every function, except
 * gxuGetVersion and the functions about errors. A child forked before gxuInit may call it.
 *
 * EXIT. Queued work that nobody waited for is dropped when the process exits; calls made during exit may give
 * gxuErrorDeinitialized. The host engine lets kernels that are running finish, for at most two seconds.
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
  gxuErrorInvalidValue = 1,               /* an argument, or an environment variable of the library, is wrong */
  gxuErrorOutOfMemory = 2,                /* the device, or the host where the message says so, has no memory left */
  gxuErrorNotInitialized = 3,             /* gxuInit has not been called */
  gxuErrorDeinitialized = 4,              /* the process is exiting */
  gxuErrorNoDevice = 100,                 /* the library found no device at all */
  gxuErrorInvalidDevice = 101,            /* a device number that is not in [0, gxuGetDeviceCount) */
  gxuErrorInvalidImage = 200,             /* a kernel image that is damaged, for other hardware or of another version */
  gxuErrorFileNotFound = 301,             /* a kernel image's file is missing or not readable */
  gxuErrorSharedObjectInitFailed = 303,   /* the vendor's driver could not be started */
  gxuErrorInvalidHandle = 400,            /* destroyed, of another kind, made up, or of a device that does not fit */
  gxuErrorNotFound = 500,                 /* a module has no kernel of that name */
  gxuErrorNotReady = 600,                 /* asked work has not finished; an answer, not an error */
  gxuErrorLaunchFailed = 719,             /* a kernel failed while it ran */
  gxuErrorForked = 720,                   /* used in a child that was forked after gxuInit */
  gxuErrorNotPermitted = 800,             /* not allowed here: enqueueing or waiting inside a host function */
  gxuErrorNotSupported = 801,             /* this library does not have the function's feature */
  gxuErrorStreamCaptureUnsupported = 900, /* not allowed while capturing; the capture is now invalid */
  gxuErrorStreamCaptureInvalidated = 901, /* an earlier error made the capture invalid */
  gxuErrorStreamCaptureUnmatched = 903,   /* the capture was begun on another stream */
  gxuErrorUnknown = 999,                  /* anything else; see the message */
} gxuError_t;

typedef struct gxuStream_st* gxuStream_t; /* NULL: the default stream of the current device */
typedef struct gxuEvent_st* gxuEvent_t;
typedef struct gxuModule_st* gxuModule_t;
typedef struct gxuFunction_st* gxuFunction_t; /* lives as long as its module */
typedef struct gxuGraph_st* gxuGraph_t;
typedef struct gxuGraphExec_st* gxuGraphExec_t;

/* What a device is like. Texts are null-terminated. Grows only at its end. */
typedef struct gxuDeviceProperties {
  uint32_t struct_size;          /* set by the caller: sizeof(gxuDeviceProperties) */
  char name[128];                /* for people */
  char uuid[40];                 /* 8-4-4-4-12 lower-case hexadecimal digits; the same device gives the same text */
  char triton_backend[32];       /* GPUTarget.backend: "gxu", "cuda", ... */
  char triton_arch[32];          /* GPUTarget.arch: decimal number or text */
  char delegate[16];             /* PyTorch device type that reaches this memory: "cpu", "cuda" or "" */
  int32_t major, minor;          /* compute capability */
  uint64_t total_memory;         /* bytes that gxuMalloc can give out in all */
  int32_t multi_processor_count; /* compute units: programs that can run at the same time */
  int32_t warp_size;             /* threads */
  int32_t max_threads_per_block; /* limit of block_x * block_y * block_z */
  int32_t max_threads_per_multi_processor;   /* threads */
  int32_t regs_per_multiprocessor;           /* 32-bit registers */
  uint64_t shared_memory_per_block;          /* bytes */
  uint64_t shared_memory_per_multiprocessor; /* bytes */
  uint64_t L2_cache_size;                    /* bytes */
  uint64_t L1_cache_size;                    /* bytes, per compute unit */
  int32_t max_grid_size;                     /* programs a grid is best at most, or a multiple of; 0: no preference */
  int32_t preferred_num_warps;               /* 0: no preference */
  int32_t vector_bytes;                      /* width of one vector register; 0: not meaningful */
  int32_t host_accessible;                   /* 1: the CPU may dereference device pointers */
  int32_t concurrent_kernels;                /* 1: kernels of two streams may run at the same time */
  int32_t clock_rate_khz;                    /* 0: unknown */
} gxuDeviceProperties;

typedef enum gxuMemcpyKind {
  gxuMemcpyHostToHost = 0,
  gxuMemcpyHostToDevice = 1,
  gxuMemcpyDeviceToHost = 2,
  gxuMemcpyDeviceToDevice = 3, /* on one device or between two */
  gxuMemcpyDefault = 4,        /* the library finds out from the pointers */
} gxuMemcpyKind;

typedef enum gxuMemoryType {
  gxuMemoryTypeUnregistered = 0, /* pageable host memory, or no memory */
  gxuMemoryTypeHost = 1,         /* pinned, from gxuMallocHost */
  gxuMemoryTypeDevice = 2,       /* from gxuMalloc */
} gxuMemoryType;

typedef struct gxuPointerAttributes {
  gxuMemoryType type;
  int32_t device; /* that was current when the memory was allocated; -1 for gxuMemoryTypeUnregistered */
  void* base;     /* start of the allocation that holds the pointer; NULL for gxuMemoryTypeUnregistered */
  size_t size;    /* bytes asked for when it was allocated; 0 for gxuMemoryTypeUnregistered */
} gxuPointerAttributes;

typedef enum gxuFunctionAttribute {
  gxuFuncAttributeMaxDynamicSharedMemorySize = 8, /* bytes a launch may ask for as shared_memory_bytes */
} gxuFunctionAttribute;

/* Flags of gxuStreamCreate: whether the stream is ordered with its device's default stream. */
enum {
  gxuStreamDefault = 0,     /* ordered */
  gxuStreamNonBlocking = 1, /* not ordered */
};

/* Flags of gxuEventCreate, combined with |. */
enum {
  gxuEventDefault = 0,
  gxuEventBlockingSync = 1,  /* a waiting thread sleeps instead of spinning (host engine: no difference) */
  gxuEventDisableTiming = 2, /* no time is taken: cheaper, and enough for order */
  gxuEventInterprocess = 4,  /* may be shared between processes; needs gxuEventDisableTiming */
};

typedef enum gxuStreamCaptureStatus {
  gxuStreamCaptureStatusNone = 0,
  gxuStreamCaptureStatusActive = 1,
  gxuStreamCaptureStatusInvalidated = 2, /* an error happened; only gxuStreamEndCapture is left to call */
} gxuStreamCaptureStatus;

/* A function that a stream calls; see gxuLaunchHostFunc. */
typedef void (*gxuHostFn_t)(void* user_data);

/* ---- Version, start, errors ------------------------------------------------------------------------------------- */

/* Writes the library's GXU_ABI_VERSION. Works before gxuInit, in forked children and in every version of the library.
   Does not block. */
GXU_API gxuError_t gxuGetVersion(int* version);

/* Finds the devices. `flags` must be 0. Calling it again does nothing; a call that failed may be repeated. May block
   while the driver starts.
   Errors: InvalidValue (flags; a wrong environment variable, named in the message), NoDevice,
   SharedObjectInitFailed, Forked.
   The host engine reads GXU_DEVICE_COUNT (1 to 64, default 1) and GXU_MEMORY_LIMIT (bytes per device, suffix K, M, G
   or T allowed; default: the memory that the process may use, divided by the number of devices). */
GXU_API gxuError_t gxuInit(unsigned int flags);

/* The code's identifier ("gxuErrorOutOfMemory") and a short text ("out of memory"). Static strings, never NULL; a fixed
   text for unknown codes. Work at any time, do not block. */
GXU_API const char* gxuGetErrorName(gxuError_t error);
GXU_API const char* gxuGetErrorString(gxuError_t error);

/* The calling thread's last error; gxuGetLastError also resets it to gxuSuccess. Successful calls do not change it.
   Work at any time, do not block. */
GXU_API gxuError_t gxuGetLastError(void);
GXU_API gxuError_t gxuPeekAtLastError(void);

/* Detail of the calling thread's last error. Never NULL; valid until the thread's next failing call. Works at any time,
   does not block. */
GXU_API const char* gxuGetLastErrorMessage(void);

/* ---- Devices ---------------------------------------------------------------------------------------------------- */

/* Number of devices, at least 1 after a successful gxuInit. Does not block. */
GXU_API gxuError_t gxuGetDeviceCount(int* count);

/* The calling thread's current device: the one on which gxuMalloc allocates, gxuStreamCreate and gxuEventCreate create,
   and whose default stream NULL is. Neither blocks. Errors of gxuSetDevice: InvalidDevice. */
GXU_API gxuError_t gxuGetDevice(int* device);
GXU_API gxuError_t gxuSetDevice(int device);

/* Fills `properties`, whose struct_size the caller has set. A library that knows fewer members than the caller zeroes
   the rest. The values of a device do not change while the process lives. Does not block.
   Errors: InvalidDevice; InvalidValue when struct_size is smaller than in the first version of this header. */
GXU_API gxuError_t gxuGetDeviceProperties(gxuDeviceProperties* properties, int device);

/* Blocks until all work that was enqueued on any stream of the current device before the call has finished.
   Errors: LaunchFailed; NotPermitted in a host function; StreamCaptureUnsupported while a stream of the device is
   capturing. */
GXU_API gxuError_t gxuDeviceSynchronize(void);

/* 1 when kernels of `device` may use memory of `peer`; 0 when not, and for device == peer. Does not block.
   Errors: InvalidDevice. */
GXU_API gxuError_t gxuDeviceCanAccessPeer(int* can_access, int device, int peer);

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/* Allocates `size` bytes on the current device. Aligned to at least 64 bytes (host engine: 256, and 2 MiB from 2 MiB
   on). The contents are undefined. Size 0 succeeds and gives NULL. May block on the driver, does not wait for queued
   work.
   Errors: OutOfMemory; the message names the bytes asked for, free, and the limit. */
GXU_API gxuError_t gxuMalloc(void** pointer, size_t size);

/* Frees what gxuMalloc gave. Blocks until the work enqueued on all streams of that memory's device before the call has
   finished; does not report failed kernels. NULL is allowed.
   Errors: InvalidValue when the pointer is not the start of a live allocation of gxuMalloc (host engine; others may not
   notice), NotPermitted in a host function. */
GXU_API gxuError_t gxuFree(void* pointer);

/* Pinned host memory, for copies that do not block and that kernels may use where the hardware allows. Not charged to
   a device's memory. gxuFreeHost blocks until the work enqueued on all devices before the call has finished.
   Otherwise, and in their errors, as gxuMalloc and gxuFree. */
GXU_API gxuError_t gxuMallocHost(void** pointer, size_t size);
GXU_API gxuError_t gxuFreeHost(void* pointer);

/* Bytes of the current device that gxuMalloc could give out now, and its total_memory. Does not block. */
GXU_API gxuError_t gxuMemGetInfo(size_t* free, size_t* total);

/* What the memory at `pointer` is; pointers into the middle of an allocation count. A pointer that the library does not
   know, NULL included, succeeds with gxuMemoryTypeUnregistered. Does not block. */
GXU_API gxuError_t gxuPointerGetAttributes(gxuPointerAttributes* attributes, const void* pointer);

/* Copies `size` bytes (0: nothing) on `stream`, which may belong to any device. Ranges that overlap on one device are
   copied as memmove does (host engine; undefined elsewhere).
   When both pointers are device or pinned memory: enqueues. When one is pageable host memory: blocks until the
   copy, and with it all earlier work of the stream, is done.
   Errors: InvalidValue when a range leaves its allocation, when `kind` says device for a pointer that is not in device
   memory, or for an unknown kind; InvalidHandle; NotPermitted in a host function; with pageable memory also
   LaunchFailed, and StreamCaptureUnsupported while the stream is capturing. */
GXU_API gxuError_t gxuMemcpyAsync(void* dst, const void* src, size_t size, gxuMemcpyKind kind, gxuStream_t stream);

/* Sets `size` bytes (0: nothing) of device or pinned memory to the low byte of `value`. Enqueues.
   Errors: InvalidValue when the range is not inside one live allocation; InvalidHandle; NotPermitted in a host
   function. */
GXU_API gxuError_t gxuMemsetAsync(void* dst, int value, size_t size, gxuStream_t stream);

/* ---- Streams ---------------------------------------------------------------------------------------------------- */

/* Creates a stream on the current device. `priority` is clamped to gxuStreamGetPriorityRange. May block on the driver,
   does not wait for queued work. Errors: InvalidValue for unknown flags, OutOfMemory. */
GXU_API gxuError_t gxuStreamCreate(gxuStream_t* stream, unsigned int flags, int priority);

/* Blocks until the stream's work has finished, then ends it. Does not report failed kernels.
   Errors: InvalidHandle (also for NULL), NotPermitted in a host function, StreamCaptureUnsupported while capturing. */
GXU_API gxuError_t gxuStreamDestroy(gxuStream_t stream);

/* Blocks until all work enqueued on the stream before the call has finished. The host engine executes it on the calling
   thread where no other thread does. Errors: LaunchFailed, InvalidHandle, NotPermitted in a host function,
   StreamCaptureUnsupported while capturing. */
GXU_API gxuError_t gxuStreamSynchronize(gxuStream_t stream);

/* gxuSuccess when all work of the stream has finished, else gxuErrorNotReady. Does not block and does not report
   failed kernels. Errors: InvalidHandle, StreamCaptureUnsupported while capturing. */
GXU_API gxuError_t gxuStreamQuery(gxuStream_t stream);

/* Later work of `stream` waits for what the event's latest recording stands for at the time of this call; the event may
   be recorded again or destroyed afterwards. An event that was never recorded changes nothing. The two may belong to
   different devices. `flags` must be 0. Enqueues.
   Errors: InvalidValue (flags; an event recorded in a capture that has ended), InvalidHandle, NotPermitted in a host
   function, StreamCaptureUnsupported when a capturing stream should wait for an event from outside its capture. */
GXU_API gxuError_t gxuStreamWaitEvent(gxuStream_t stream, gxuEvent_t event, unsigned int flags);

/* The range of priorities on the current device: `greatest` is numerically the lowest. Both 0: no priorities. Does not
   block. Host engine: 0 to -2. Work that nobody waits for starts only while none of a higher priority runs, and what
   has started goes on to its end. */
GXU_API gxuError_t gxuStreamGetPriorityRange(int* least, int* greatest);

/* Calls function(user_data) once, on a thread of the library's choice (host engine: maybe one that waits), after the
   stream's earlier work; later work waits until it returns. Inside, calls that enqueue, wait or free give
   gxuErrorNotPermitted; queries are allowed. The function must not throw. Enqueues.
   Errors: InvalidValue for a NULL function, InvalidHandle, NotPermitted in a host function. */
GXU_API gxuError_t gxuLaunchHostFunc(gxuStream_t stream, gxuHostFn_t function, void* user_data);

/* ---- Events ----------------------------------------------------------------------------------------------------- */

/* Creates an event on the current device, complete until it is recorded. Does not block.
   Errors: InvalidValue for unknown flags, NotSupported for gxuEventInterprocess where the library has none,
   OutOfMemory. */
GXU_API gxuError_t gxuEventCreate(gxuEvent_t* event, unsigned int flags);

/* Ends the event; waits that were enqueued for it stay valid. Does not block. Errors: InvalidHandle. */
GXU_API gxuError_t gxuEventDestroy(gxuEvent_t event);

/* Makes the event stand for all work enqueued on `stream` so far, instead of what it stood for. An event that takes
   time gets it when the stream reaches this point. Enqueues.
   Errors: InvalidHandle (also when event and stream belong to different devices), NotPermitted in a host function. */
GXU_API gxuError_t gxuEventRecord(gxuEvent_t event, gxuStream_t stream);

/* gxuSuccess when the work that the event stands for has finished, or when it was never recorded; else
   gxuErrorNotReady. Does not block and does not report failed kernels.
   Errors: InvalidHandle; StreamCaptureUnsupported when it was last recorded in a capture. */
GXU_API gxuError_t gxuEventQuery(gxuEvent_t event);

/* Blocks until gxuEventQuery would give gxuSuccess. Errors: LaunchFailed, InvalidHandle, NotPermitted in a host
   function; StreamCaptureUnsupported when it was last recorded in a capture. */
GXU_API gxuError_t gxuEventSynchronize(gxuEvent_t event);

/* Milliseconds from when a stream reached `start` to when one reached `end`; negative when it was the other way round.
   Host engine: steady clock, nanoseconds. Does not block.
   Errors: InvalidHandle (destroyed, never recorded, created with gxuEventDisableTiming, or of two devices), NotReady
   when one of them has not been reached. */
GXU_API gxuError_t gxuEventElapsedTime(float* milliseconds, gxuEvent_t start, gxuEvent_t end);

/* ---- Modules and launches --------------------------------------------------------------------------------------- */

/* Loads a kernel image, as the device's Triton backend writes it, from a file or from `size` bytes of memory that the
   call copies. Good for all devices that can run it. A file may be replaced or removed afterwards; loading an image
   twice gives two modules. May block on the file system and the driver, does not wait for queued work.
   Errors: FileNotFound, InvalidImage, OutOfMemory. Host engine: see gxu_host_kernel.h. */
GXU_API gxuError_t gxuModuleLoad(gxuModule_t* module, const char* file_name);
GXU_API gxuError_t gxuModuleLoadData(gxuModule_t* module, const void* image, size_t size);

/* Blocks until the work enqueued on all devices before the call has finished, then ends the module and its functions.
   Graphs that captured launches of them stay usable. Does not report failed kernels.
   Errors: InvalidHandle, NotPermitted in a host function. */
GXU_API gxuError_t gxuModuleUnload(gxuModule_t module);

/* The kernel `name` of the module; the same name gives the same handle. Does not block.
   Errors: InvalidHandle, NotFound, InvalidImage when the kernel's description is wrong or of another version. */
GXU_API gxuError_t gxuModuleGetFunction(gxuFunction_t* function, gxuModule_t module, const char* name);

/* Sets an attribute of the kernel for later launches. Does not block.
   Errors: InvalidHandle; InvalidValue for an unknown attribute or a value that the current device does not allow. */
GXU_API gxuError_t gxuFuncSetAttribute(gxuFunction_t function, gxuFunctionAttribute attribute, int value);

/* Runs grid_x * grid_y * grid_z programs of the kernel, each with block_x * block_y * block_z threads and
   shared_memory_bytes of dynamic shared memory. kernel_params[i] points to the value of parameter i, in the size that
   the kernel declares; values are copied before the call returns. kernel_params may be NULL for a kernel without
   parameters. The host engine runs a program as one thread, whatever its block, and ignores shared_memory_bytes.
   Enqueues.
   Errors: InvalidHandle (also when the stream does not belong to the current device); InvalidValue for a zero or too
   large dimension or a NULL parameter; NotPermitted in a host function. A kernel that fails later: see FAILED KERNELS.
 */
GXU_API gxuError_t gxuLaunchKernel(gxuFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                   unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                   unsigned int block_z, unsigned int shared_memory_bytes, gxuStream_t stream,
                                   void** kernel_params);

/* ---- Graph capture and replay ----------------------------------------------------------------------------------- */

/* From here on, what is enqueued on the stream is put into a graph instead of being executed. A stream that waits for
   an event recorded in the capture joins it. Waiting, querying and copying pageable memory on a capturing stream give
   gxuErrorStreamCaptureUnsupported and make the capture invalid. Does not block.
   Errors: InvalidValue when the stream is capturing already, StreamCaptureUnsupported for the default stream,
   InvalidHandle, NotPermitted in a host function. */
GXU_API gxuError_t gxuStreamBeginCapture(gxuStream_t stream);

/* Ends the capture on the stream that began it, for all streams that joined, and makes the graph. Does not block.
   Errors: InvalidValue when the stream is not capturing; StreamCaptureUnmatched on a stream that joined (the capture
   goes on); StreamCaptureInvalidated (the capture has ended, there is no graph); InvalidHandle. */
GXU_API gxuError_t gxuStreamEndCapture(gxuStream_t stream, gxuGraph_t* graph);

/* Whether the stream is capturing. Does not block and does not disturb the capture. Errors: InvalidHandle. */
GXU_API gxuError_t gxuStreamIsCapturing(gxuStream_t stream, gxuStreamCaptureStatus* status);

/* The same, and in `id` the number of the capture that the stream takes part in, unlike that of any other capture of
   the process; 0 where it takes part in none. Does not block and does not disturb the capture. A library may leave this
   function out; PyTorch operators can then not be captured. Errors: InvalidHandle. */
GXU_API gxuError_t gxuStreamGetCaptureInfo(gxuStream_t stream, gxuStreamCaptureStatus* status, unsigned long long* id);

/* Makes an executable copy of the graph, which then may be destroyed. May block on the driver.
   Errors: InvalidHandle, OutOfMemory. */
GXU_API gxuError_t gxuGraphInstantiate(gxuGraphExec_t* exec, gxuGraph_t graph);

/* Runs the captured work, with the parameter values and addresses of the capture, as one piece of work of `stream`.
   Enqueues. Errors: InvalidHandle, NotPermitted in a host function. */
GXU_API gxuError_t gxuGraphLaunch(gxuGraphExec_t exec, gxuStream_t stream);

/* End the objects. Replays already launched still run. Do not block. Errors: InvalidHandle. */
GXU_API gxuError_t gxuGraphExecDestroy(gxuGraphExec_t exec);
GXU_API gxuError_t gxuGraphDestroy(gxuGraph_t graph);

/* ---- Interprocess memory ---------------------------------------------------------------------------------------- */

/* Names one allocation for other processes on the machine; may be sent to them as bytes. */
typedef struct gxuIpcMemHandle_t {
  char reserved[64];
} gxuIpcMemHandle_t;

/* The handle of the allocation that starts at `pointer` (from gxuMalloc). Blocks until the work enqueued on all streams
   of its device before the call has finished. Host engine: at the first call for an allocation its pages become shared
   ones, at the same addresses; no other thread may write to it meanwhile. Every shared allocation keeps a file open in
   its owner. Errors: InvalidValue, OutOfMemory, NotPermitted in a host function, NotSupported where device memory is
   private to its process. */
GXU_API gxuError_t gxuIpcGetMemHandle(gxuIpcMemHandle_t* handle, void* pointer);

/* Maps another process's allocation into this one, on the current device, whose memory it is not charged to. It stays
   allocated until its owner frees it and must not be used after that. May block on the driver.
   Host engine: both processes run as the same user, and the owner must live and hold the memory during this call;
   afterwards the memory stays usable until the last process that maps it has closed it or ended, however it ended.
   Errors: InvalidValue (also when the owner has freed the memory or ended), OutOfMemory, NotSupported. */
GXU_API gxuError_t gxuIpcOpenMemHandle(void** pointer, gxuIpcMemHandle_t handle);

/* Unmaps what gxuIpcOpenMemHandle gave. Blocks as gxuFree does. Errors: InvalidValue, NotPermitted in a host function,
   NotSupported. */
GXU_API gxuError_t gxuIpcCloseMemHandle(void* pointer);

#ifdef __cplusplus
}
#endif
#endif /* GXU_RUNTIME_H_ */
