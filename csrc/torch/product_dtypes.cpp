// Products of bf16 and fp16 matrices whose result is float32 (`torch.mm(a, b, out_dtype=torch.float32)` and the like):
// CUDA has them, the CPU refuses. Checks and messages are CUDA's.
//
// The operands are converted, which loses nothing, and multiplied as float32: no sum is ever rounded to their type.
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include "own_operator.h"

namespace gxu {
namespace {

using at::ScalarType;
using at::Tensor;

void check_result_type(const Tensor& operand, ScalarType out_dtype) {
  const ScalarType type = operand.scalar_type();
  TORCH_CHECK(out_dtype == type ||
                  (out_dtype == ScalarType::Float && (type == ScalarType::Half || type == ScalarType::BFloat16)),
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
}

void check_out(const Tensor& out, ScalarType out_dtype) {
  TORCH_CHECK(out_dtype == out.scalar_type(), "out_dtype must be the same as the dtype of the provided out tensor");
}

void check_matrices(const char* first, const Tensor& mat1, const Tensor& mat2) {
  TORCH_CHECK(mat1.dim() == 2, first, " must be a matrix, got ", mat1.dim(), "-D tensor");
  TORCH_CHECK(mat2.dim() == 2, "mat2 must be a matrix, got ", mat2.dim(), "-D tensor");
  TORCH_CHECK(mat1.size(1) == mat2.size(0), "mat1 and mat2 shapes cannot be multiplied (", mat1.size(0), "x",
              mat1.size(1), " and ", mat2.size(0), "x", mat2.size(1), ")");
}

void check_batches(const Tensor& batch1, const Tensor& batch2, ScalarType out_dtype) {
  TORCH_CHECK(batch1.dim() == 3, "batch1 must be a 3D tensor");
  TORCH_CHECK(batch2.dim() == 3, "batch2 must be a 3D tensor");
  TORCH_CHECK(batch2.size(0) == batch1.size(0) && batch2.size(1) == batch1.size(2),
              "Expected size for first two dimensions of batch2 tensor to be: [", batch1.size(0), ", ", batch1.size(2),
              "] but got: [", batch2.size(0), ", ", batch2.size(1), "].");
  TORCH_CHECK(batch1.scalar_type() == batch2.scalar_type(), "batch1 and batch2 must have the same dtype");
  check_result_type(batch1, out_dtype);
}

void check_added(const Tensor& self, const char* first, const Tensor& operand, ScalarType out_dtype) {
  TORCH_CHECK(self.scalar_type() == out_dtype || self.scalar_type() == operand.scalar_type(),
              "self dtype must match either out_dtype or ", first, " dtype");
}

void check_mm(const Tensor& self, const Tensor& mat2, ScalarType out_dtype) {
  check_matrices("self", self, mat2);
  TORCH_CHECK(self.scalar_type() == mat2.scalar_type(), "input dtypes must be the same");
  check_result_type(self, out_dtype);
}

Tensor mm(const Tensor& self, const Tensor& mat2, ScalarType out_dtype) {
  check_mm(self, mat2, out_dtype);
  return at::mm(self.to(out_dtype), mat2.to(out_dtype));
}

Tensor& mm_out(const Tensor& self, const Tensor& mat2, ScalarType out_dtype, Tensor& out) {
  check_out(out, out_dtype);
  check_mm(self, mat2, out_dtype);
  return at::mm_out(out, self.to(out_dtype), mat2.to(out_dtype));
}

void check_addmm(const Tensor& self, const Tensor& mat1, const Tensor& mat2, ScalarType out_dtype) {
  check_matrices("mat1", mat1, mat2);
  TORCH_CHECK(mat1.scalar_type() == mat2.scalar_type(), "mat1 and mat2 must have the same dtype, but got ",
              mat1.scalar_type(), " and ", mat2.scalar_type());
  check_result_type(mat1, out_dtype);
  check_added(self, "mat1", mat1, out_dtype);
}

Tensor addmm(const Tensor& self, const Tensor& mat1, const Tensor& mat2, ScalarType out_dtype, const at::Scalar& beta,
             const at::Scalar& alpha) {
  check_addmm(self, mat1, mat2, out_dtype);
  return at::addmm(self.to(out_dtype), mat1.to(out_dtype), mat2.to(out_dtype), beta, alpha);
}

Tensor& addmm_out(const Tensor& self, const Tensor& mat1, const Tensor& mat2, ScalarType out_dtype,
                  const at::Scalar& beta, const at::Scalar& alpha, Tensor& out) {
  check_addmm(self, mat1, mat2, out_dtype);
  check_out(out, out_dtype);
  return at::addmm_out(out, self.to(out_dtype), mat1.to(out_dtype), mat2.to(out_dtype), beta, alpha);
}

Tensor bmm(const Tensor& self, const Tensor& mat2, ScalarType out_dtype) {
  check_batches(self, mat2, out_dtype);
  return at::bmm(self.to(out_dtype), mat2.to(out_dtype));
}

Tensor& bmm_out(const Tensor& self, const Tensor& mat2, ScalarType out_dtype, Tensor& out) {
  check_batches(self, mat2, out_dtype);
  check_out(out, out_dtype);
  return at::bmm_out(out, self.to(out_dtype), mat2.to(out_dtype));
}

Tensor baddbmm(const Tensor& self, const Tensor& batch1, const Tensor& batch2, ScalarType out_dtype,
               const at::Scalar& beta, const at::Scalar& alpha) {
  check_added(self, "batch1", batch1, out_dtype);
  check_batches(batch1, batch2, out_dtype);
  return at::baddbmm(self.to(out_dtype), batch1.to(out_dtype), batch2.to(out_dtype), beta, alpha);
}

Tensor& baddbmm_out(const Tensor& self, const Tensor& batch1, const Tensor& batch2, ScalarType out_dtype,
                    const at::Scalar& beta, const at::Scalar& alpha, Tensor& out) {
  check_added(self, "batch1", batch1, out_dtype);
  check_batches(batch1, batch2, out_dtype);
  check_out(out, out_dtype);
  return at::baddbmm_out(out, self.to(out_dtype), batch1.to(out_dtype), batch2.to(out_dtype), beta, alpha);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  implement(library, "mm.dtype", &gxu::mm);
  implement(library, "mm.dtype_out", &mm_out);
  implement(library, "addmm.dtype", &gxu::addmm);
  implement(library, "addmm.dtype_out", &addmm_out);
  implement(library, "bmm.dtype", &gxu::bmm);
  implement(library, "bmm.dtype_out", &bmm_out);
  implement(library, "baddbmm.dtype", &gxu::baddbmm);
  implement(library, "baddbmm.dtype_out", &baddbmm_out);
}

}  // namespace
}  // namespace gxu
