// Tensors that are made of other tensors: sparse ones, in the coordinate and the compressed layouts, and nested ones of
// layout strided.
#pragma once

#include <ATen/core/Tensor.h>

namespace gxu {

inline bool has_parts(const at::Tensor& tensor) {
  constexpr c10::DispatchKeySet kWithParts(c10::DispatchKeySet(c10::DispatchKey::Sparse) |
                                           c10::DispatchKeySet(c10::DispatchKey::SparseCsr) |
                                           c10::DispatchKeySet(c10::DispatchKey::NestedTensor));
  return tensor.key_set().has_any(kWithParts);
}

// Indices and values, or compressed indices, plain indices and values: the tensors themselves, not views of them. Of a
// nested tensor, all elements of its storage.
std::vector<at::Tensor> parts_of(const at::Tensor& tensor);

// A tensor with the shape and layout of `like` over other parts, on their device.
at::Tensor assemble(const at::Tensor& like, const std::vector<at::Tensor>& parts);

// Gives `tensor` the shape of `like` and other parts.
void reassemble(const at::Tensor& tensor, const at::Tensor& like, const std::vector<at::Tensor>& parts);

}  // namespace gxu
