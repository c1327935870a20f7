// Aliases (alias.h) that last for one call of an operator, and cost no allocation.
#pragma once

#include <ATen/core/Tensor.h>

namespace gxu {

// A CPU tensor over the memory of a dense gxu tensor, lent to one operator. It is one of a few that each thread has and
// points at other memory for each call. An operator that keeps it nonetheless, or a view of it, may: then the alias
// becomes one of its own that keeps the memory alive, as alias_as_cpu's does.
class LentAlias {
 public:
  // What an alias can be lent for: dense, without a pending conjugation or negation, with memory.
  static bool suits(const at::Tensor& tensor) {
    using c10::DispatchKey;
    constexpr c10::DispatchKeySet others({DispatchKey::Conjugate, DispatchKey::Negative, DispatchKey::ZeroTensor,
                                          DispatchKey::Sparse, DispatchKey::SparseCsr, DispatchKey::Quantized,
                                          DispatchKey::NestedTensor, DispatchKey::Python});
    const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
    return !impl->key_set().has_any(others) && !impl->is_wrapped_number();
  }

  // `original` outlives the object and suits(). An alias that is not written leaves memory shared that lazy clones
  // share (alias.h).
  LentAlias(const at::Tensor& original, bool is_written);
  LentAlias(const LentAlias&) = delete;
  LentAlias& operator=(const LentAlias&) = delete;
  ~LentAlias();

  const at::Tensor& original() const { return *original_; }
  at::Tensor& tensor() const { return *alias_; }

  // Carries a new memory or geometry that an operator gave the alias (out=) over to the original.
  void write_back() const;

 private:
  struct Slot;
  struct Slots;

  const at::Tensor* original_;
  Slot* slot_;
  at::Tensor* alias_;  // the slot's
  void* memory_;
};

}  // namespace gxu
