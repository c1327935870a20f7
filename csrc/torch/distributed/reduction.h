// Reductions that a host library has not: operators and dtypes.
#pragma once

#include <ATen/core/Tensor.h>

#include <torch/csrc/distributed/c10d/Types.hpp>
#include <vector>

#include "host_tensors.h"

namespace gxu {

// One reduction over the ranks of a group, in terms of the operators SUM, PRODUCT, MIN, MAX, BAND, BOR and BXOR on the
// dtypes that gloo reduces: float16, bfloat16, float32, float64, (u)int8, int32 and int64.
//
// AVG sums and divides (integers towards zero); PREMUL_SUM multiplies and sums; of bool, SUM is "or" and PRODUCT "and".
// Narrow integers and 8-bit floating point are reduced in a wider type; complex numbers as pairs.
class Reduction {
 public:
  // Throws NotImplementedError for what cannot be put in these terms.
  Reduction(const c10d::ReduceOp& op, at::ScalarType dtype, int size, HostTensors& tensors);

  // The operator for the host library.
  c10d::ReduceOp host_op() const { return host_op_; }

  // The CPU tensor for one that holds this rank's part and then the result.
  at::Tensor add_in_place(const at::Tensor& tensor);
  std::vector<at::Tensor> add_in_place(const std::vector<at::Tensor>& tensors);
  // The same for separate tensors: this rank's part, flat and on the device still, and where the result goes, which the
  // collective leaves in `host`.
  at::Tensor input(const at::Tensor& tensor) const;
  void add_result(const at::Tensor& tensor, const at::Tensor& host);

 private:
  bool is_converted() const { return dtype_ != converted_dtype_; }
  at::Tensor convert(const at::Tensor& tensor) const;
  at::Tensor view(const at::Tensor& tensor) const;
  at::Tensor factor(const at::Tensor& tensor) const;

  HostTensors& tensors_;
  const c10d::ReduceOp op_;
  const at::ScalarType dtype_;
  const at::ScalarType converted_dtype_;
  c10d::ReduceOp host_op_;
};

}  // namespace gxu
