#include "reduction.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include "../alias.h"
#include "../device_name.h"

namespace gxu {
namespace {

using c10d::ReduceOp;

// The dtype in which values of `dtype` are reduced.
at::ScalarType accumulation_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kShort:
    case at::kUInt16:
      return at::kInt;
    case at::kUInt32:
      return at::kLong;
    default:
      return at::isFloat8Type(dtype) ? at::kFloat : dtype;
  }
}

bool is_reducible(at::ScalarType dtype) {
  switch (dtype) {
    case at::kBool:
    case at::kByte:
    case at::kChar:
    case at::kInt:
    case at::kLong:
    case at::kHalf:
    case at::kBFloat16:
    case at::kFloat:
    case at::kDouble:
      return true;
    default:
      return at::isComplexType(dtype);
  }
}

const char* name_of(ReduceOp::RedOpType op) {
  constexpr const char* kNames[] = {"SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "PREMUL_SUM"};
  return op < ReduceOp::UNUSED ? kNames[op] : "UNUSED";
}

// Sums of the scaled or divided kind.
bool is_linear(ReduceOp::RedOpType op) {
  return op == ReduceOp::SUM || op == ReduceOp::AVG || op == ReduceOp::PREMUL_SUM;
}

ReduceOp::RedOpType bool_operator(ReduceOp::RedOpType op) {
  return op == ReduceOp::SUM ? ReduceOp::MAX : op == ReduceOp::PRODUCT ? ReduceOp::MIN : op;
}

}  // namespace

Reduction::Reduction(const ReduceOp& op, at::ScalarType dtype, int size, HostTensors& tensors)
    : tensors_(tensors), op_(op), dtype_(dtype), converted_dtype_(accumulation_dtype(dtype)) {
  const ReduceOp::RedOpType kind = op.op_;
  TORCH_CHECK_NOT_IMPLEMENTED(is_reducible(converted_dtype_), tensors.collective(), " does not reduce ", dtype,
                              ": convert the tensor to another dtype first");
  const bool is_bool = dtype == at::kBool;
  const bool is_possible = at::isComplexType(dtype) ? is_linear(kind)
                           : is_bool                ? kind != ReduceOp::AVG && kind != ReduceOp::PREMUL_SUM
                           : at::isFloatingType(dtype)
                               ? kind != ReduceOp::BAND && kind != ReduceOp::BOR && kind != ReduceOp::BXOR
                               : kind != ReduceOp::PREMUL_SUM;
  TORCH_CHECK_NOT_IMPLEMENTED(is_possible && kind != ReduceOp::UNUSED, tensors.collective(), " does not have ReduceOp.",
                              name_of(kind), " for tensors of ", dtype,
                              ": convert the tensor, or reduce with another operator");
  host_op_ = is_linear(kind) && !is_bool ? ReduceOp::SUM : is_bool ? bool_operator(kind) : kind;
  if (kind == ReduceOp::AVG) {
    tensors.divide_results(size);
  }
}

at::Tensor Reduction::convert(const at::Tensor& tensor) const {
  TORCH_CHECK(is_gxu(tensor) && tensor.scalar_type() == dtype_, tensors_.collective(), " takes ", device_name(),
              " tensors of one dtype, but got ", dtype_, " and a tensor of ", tensor.scalar_type(), " on ",
              tensor.device());
  return is_converted() ? tensor.to(converted_dtype_) : tensor;
}

at::Tensor Reduction::view(const at::Tensor& tensor) const {
  return at::isComplexType(dtype_) ? at::view_as_real(tensor) : dtype_ == at::kBool ? tensor.view(at::kByte) : tensor;
}

at::Tensor Reduction::factor(const at::Tensor& tensor) const {
  // The name that torch 2.11 and later have for it; it is not NCCL's alone.
  const auto& factor = static_cast<const c10d::NCCLPreMulSumSupplement&>(*op_.supplement_);
  return factor.tensor_factor.defined() ? factor.tensor_factor.to(tensor.options())
                                        : at::full({}, factor.double_factor, tensor.options());
}

at::Tensor Reduction::add_in_place(const at::Tensor& tensor) {
  const at::Tensor operand = convert(tensor);
  if (op_.op_ == ReduceOp::PREMUL_SUM) {
    operand.mul_(factor(operand));
  }
  if (is_converted()) {
    tensors_.convert_result(tensor, operand);
  }
  return tensors_.add(view(operand), TensorUse::kReadWrite);
}

at::Tensor Reduction::input(const at::Tensor& tensor) const {
  at::Tensor operand = convert(tensor);
  if (op_.op_ == ReduceOp::PREMUL_SUM) {
    operand = at::mul(operand, factor(operand));
  }
  return view(operand).reshape(-1);
}

void Reduction::add_result(const at::Tensor& tensor, const at::Tensor& host) {
  at::Tensor operand = tensor;
  if (is_converted()) {
    operand = at::empty_like(tensor, tensor.options().dtype(converted_dtype_));
    tensors_.convert_result(tensor, operand);
  }
  operand = view(operand);
  tensors_.add_result(operand, host.view(operand.sizes()));
}

std::vector<at::Tensor> Reduction::add_in_place(const std::vector<at::Tensor>& tensors) {
  return transformed(tensors, [this](const at::Tensor& tensor) { return add_in_place(tensor); });
}

}  // namespace gxu
