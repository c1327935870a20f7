// Runs CPU operators on gxu tensors.
#pragma once

#include <ATen/core/boxing/impl/boxing.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>
#include <cstdint>

namespace gxu {

// A boxed kernel for any operator: the CPU's kernel of it for dense (sparse, quantized, ...) tensors, on aliases of gxu
// memory. Where PyTorch's cuda device is the delegate, CUDA's kernel for dense tensors.
template <c10::DispatchKey functionality>
void delegate_operator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// delegate_operator for dense tensors, with unboxed arguments.
template <typename Result, typename... Arguments>
Result call_delegate(const c10::OperatorHandle& op, Arguments... arguments) {
  static const auto delegate = c10::BoxedKernel::makeFromFunction<&delegate_operator<c10::DispatchKey::Dense>>();
  return c10::impl::BoxedKernelWrapper<Result(Arguments...)>::call(
      delegate, op, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), std::forward<Arguments>(arguments)...);
}

namespace detail {
extern std::atomic<int64_t> num_delegated;
}  // namespace detail

// Operators that ran on the delegate since start.
int64_t delegated_count();
inline void count_delegated() { detail::num_delegated.fetch_add(1, std::memory_order_relaxed); }

// Registers the delegate for every operator that the CPU has a kernel of its own for and gxu has not.
//
// PyTorch's fallback of a backend is not enough: where an operator also has a composite kernel, that one goes first. It
// may ask a sparse tensor for a storage, and it dispatches once more, which is half of the overhead of a small
// operator.
void register_delegated_operators();

}  // namespace gxu
