/*
 * gxu_function_attributes.h: optional attributes of kernels, for hardware that has clusters or cooperative launches,
 * and for a compiler's reports.
 *
 * A library takes those that mean something to its hardware; gxuFuncSetAttribute gives gxuErrorInvalidValue for the
 * others. A library that tells none of them leaves gxuFuncGetAttribute out; clients look it up by name. They follow the
 * rules of gxu_runtime.h.
 */
#ifndef GXU_FUNCTION_ATTRIBUTES_H_
#define GXU_FUNCTION_ATTRIBUTES_H_

#include "gxu_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values of gxuFunctionAttribute. */
enum {
  /* Only read: what the compiler made of the kernel. */
  gxuFuncAttributeMaxThreadsPerBlock = 0,
  gxuFuncAttributeSharedSizeBytes = 1, /* shared memory that every launch takes */
  gxuFuncAttributeLocalSizeBytes = 3,  /* memory of a thread for what its registers do not hold */
  gxuFuncAttributeNumRegs = 4,         /* registers of a thread */
  /* Set, for later launches. */
  gxuFuncAttributeRequiredClusterWidth = 11,            /* neighbours in x that make a cluster; 1: no clusters */
  gxuFuncAttributeCooperative = 14,                     /* 1: programs wait for one another, so all run at once */
  gxuFuncAttributeProgrammaticStreamSerialization = 15, /* 1: may start before the work in front of it has ended */
};

/* The value of an attribute of the kernel on the current device. Does not block.
   Errors: InvalidHandle; InvalidValue for an attribute that the library cannot tell. */
GXU_API gxuError_t gxuFuncGetAttribute(int* value, gxuFunctionAttribute attribute, gxuFunction_t function);

#ifdef __cplusplus
}
#endif
#endif /* GXU_FUNCTION_ATTRIBUTES_H_ */
