/*
 * gxu_native.h: optional functions of a runtime library whose driver other libraries of the process use as well.
 *
 * A library without them leaves them out; clients look each function up by name. They follow the rules of
 * gxu_runtime.h.
 */
#ifndef GXU_NATIVE_H_
#define GXU_NATIVE_H_

#include "gxu_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The driver's own stream behind `stream` (cuda engine: a CUstream; NULL is the driver's default stream), for whoever
   enqueues by the driver or by another library on top of it. Valid as long as `stream`. Does not block.
   Errors: InvalidHandle. */
GXU_API gxuError_t gxuStreamGetNative(void** native, gxuStream_t stream);

#ifdef __cplusplus
}
#endif
#endif /* GXU_NATIVE_H_ */
