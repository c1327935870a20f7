/*
 * gxu_memory_check.h: optional functions of a runtime library that checks what kernels access.
 *
 * A library without such checks leaves them out; clients look each function up by name. The host engine has them, and
 * checks when GXU_SANITIZE is 1 at gxuInit; otherwise they do nothing. They follow the rules of gxu_runtime.h.
 */
#ifndef GXU_MEMORY_CHECK_H_
#define GXU_MEMORY_CHECK_H_

#include "gxu_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Says that a client's allocator gave out [base, base + size), which lies in one allocation of gxuMalloc. Of that
   allocation only such blocks count as allocated from then on. Does not block. */
GXU_API gxuError_t gxuMemoryCheckAddBlock(const void* base, size_t size);

/* Says that the block was taken back. Launches that were made before may still access it. Does not block. */
GXU_API gxuError_t gxuMemoryCheckRemoveBlock(const void* base);

/* Lets the calling thread's next launch access [base, base + size) as an allocation of its own: host memory that is
   passed to a kernel. Does not block. */
GXU_API gxuError_t gxuMemoryCheckAllow(const void* base, size_t size);

#ifdef __cplusplus
}
#endif
#endif /* GXU_MEMORY_CHECK_H_ */
