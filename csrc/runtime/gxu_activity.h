/*
 * gxu_activity.h: optional functions of a runtime library that reports what its devices did and when, for profilers.
 *
 * A library without such reports leaves them out; clients look each function up by name. The host engine has them. They
 * follow the rules of gxu_runtime.h.
 */
#ifndef GXU_ACTIVITY_H_
#define GXU_ACTIVITY_H_

#include "gxu_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gxuActivityKind {
  gxuActivityKernel = 1,
  gxuActivityMemcpy = 2,
  gxuActivityMemset = 3,
} gxuActivityKind;

/* One piece of work that a device has finished. Grows only at its end. */
typedef struct gxuActivity {
  uint32_t struct_size; /* sizeof(gxuActivity) of the library */
  gxuActivityKind kind;
  int32_t device;
  uint64_t stream;      /* tells the streams of a device apart; 0: the default stream */
  uint64_t start, end;  /* nanoseconds since 1970, as CLOCK_REALTIME counts them */
  uint64_t correlation; /* what gxuActivitySetCorrelation had set on the thread that enqueued the work */
  const char* name;     /* of the kernel, valid during the call; NULL for other kinds */
  uint32_t grid[3];     /* programs of the kernel; 0 for other kinds */
  uint64_t bytes;       /* copied or set; 0 for kernels */
  gxuMemcpyKind copy_kind;
} gxuActivity;

/* Called for each activity after it has finished, from a thread of the library's choice and from several at once. Must
   not call the library, except for errors. */
typedef void (*gxuActivityCallback_t)(const gxuActivity* activity, void* user_data);

/* From here on `callback` gets the activities of all devices that start after this call. Does not block.
   Errors: InvalidValue for a NULL callback, or when another callback is enabled. */
GXU_API gxuError_t gxuActivityEnable(gxuActivityCallback_t callback, void* user_data);

/* Ends the reports. Waits for calls of the callback that are running; none comes afterwards. Does not wait for queued
   work: synchronise first to get the reports of what was enqueued. */
GXU_API gxuError_t gxuActivityDisable(void);

/* The number of a stream in the reports. Does not block. Errors: InvalidHandle. */
GXU_API gxuError_t gxuActivityGetStream(uint64_t* number, gxuStream_t stream);

/* Sets the number that the calling thread's later work carries, 0 at first. Does not block. */
GXU_API gxuError_t gxuActivitySetCorrelation(uint64_t correlation);

#ifdef __cplusplus
}
#endif
#endif /* GXU_ACTIVITY_H_ */
