// Operators that gxu does not implement itself.
#pragma once

#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/stack.h>

namespace gxu {

// Runs any operator: on the delegate over the same memory where the device has one, else on the CPU with copies.
void delegate_operator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// Operators that ran through delegate_operator since the process started.
int64_t delegated_count();

}  // namespace gxu
