#include "parts.h"

#include <ATen/NestedTensorImpl.h>
#include <ATen/SparseCsrTensorImpl.h>
#include <ATen/SparseTensorImpl.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include "device.h"

namespace gxu {
namespace {

bool is_coordinate(const at::Tensor& tensor) { return tensor.layout() == at::kSparse; }

at::SparseTensorImpl& coordinate(const at::Tensor& tensor) {
  return *static_cast<at::SparseTensorImpl*>(tensor.unsafeGetTensorImpl());
}

at::SparseCsrTensorImpl& compressed(const at::Tensor& tensor) {
  return *static_cast<at::SparseCsrTensorImpl*>(tensor.unsafeGetTensorImpl());
}

at::native::NestedTensorImpl& nested(const at::Tensor& tensor) {
  return *static_cast<at::native::NestedTensorImpl*>(tensor.unsafeGetTensorImpl());
}

bool is_nested(const at::Tensor& tensor) { return tensor.key_set().has(c10::DispatchKey::NestedTensor); }

}  // namespace

std::vector<at::Tensor> parts_of(const at::Tensor& tensor) {
  if (is_nested(tensor)) {
    return {nested(tensor).get_unsafe_storage_as_tensor()};
  }
  if (is_coordinate(tensor)) {
    return {coordinate(tensor).indices(), coordinate(tensor).values()};
  }
  return {compressed(tensor).compressed_indices(), compressed(tensor).plain_indices(), compressed(tensor).values()};
}

at::Tensor assemble(const at::Tensor& like, const std::vector<at::Tensor>& parts) {
  if (is_nested(like)) {
    // Sizes, strides and offsets are tensors on the CPU for every device.
    const at::native::NestedTensorImpl& from = nested(like);
    return at::detail::make_tensor<at::native::NestedTensorImpl>(parts[0], from.get_nested_sizes(),
                                                                 from.get_nested_strides(), from.get_storage_offsets());
  }
  const bool on_gxu = parts.back().device().type() == kGxu;
  at::Tensor result;
  if (is_coordinate(like)) {
    const auto key = on_gxu ? c10::DispatchKey::SparsePrivateUse1 : c10::DispatchKey::SparseCPU;
    result = at::detail::make_tensor<at::SparseTensorImpl>(c10::DispatchKeySet(key), like.dtype());
  } else {
    const auto key = on_gxu ? c10::DispatchKey::SparseCsrPrivateUse1 : c10::DispatchKey::SparseCsrCPU;
    result = at::detail::make_tensor<at::SparseCsrTensorImpl>(c10::DispatchKeySet(key), parts.back().device(),
                                                              like.layout(), like.dtype());
  }
  reassemble(result, like, parts);
  return result;
}

void reassemble(const at::Tensor& tensor, const at::Tensor& like, const std::vector<at::Tensor>& parts) {
  if (is_nested(tensor)) {
    return;  // what is written to a nested tensor keeps its shape
  }
  if (is_coordinate(tensor)) {
    at::SparseTensorImpl& to = coordinate(tensor);
    const at::SparseTensorImpl& from = coordinate(like);
    to.raw_resize_(from.sparse_dim(), from.dense_dim(), from.sizes());
    to.set_indices_and_values_unsafe(parts[0], parts[1]);
    to.set_coalesced(from.coalesced());
  } else {
    compressed(tensor).set_member_tensors(parts[0], parts[1], parts[2], like.sizes());
  }
}

// Between devices, and within one.
at::Tensor copy_nested(const at::Tensor& tensor, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                       std::optional<at::Device> device, std::optional<bool> pin_memory, bool non_blocking,
                       std::optional<at::MemoryFormat> /*memory_format*/) {
  const auto options = at::TensorOptions().dtype(dtype).layout(layout).device(device).pinned_memory(pin_memory);
  return assemble(tensor, {parts_of(tensor)[0].to(options, non_blocking, /*copy=*/true)});
}

// What describes a nested tensor is on the CPU, as it is for one on CUDA.
TORCH_LIBRARY_IMPL(aten, NestedTensorPrivateUse1, library) {
  library.impl("_to_copy", &copy_nested);
  library.impl("_nested_tensor_size", [](const at::Tensor& tensor) { return nested(tensor).get_nested_sizes(); });
  library.impl("_nested_tensor_strides", [](const at::Tensor& tensor) { return nested(tensor).get_nested_strides(); });
  library.impl("_nested_tensor_storage_offsets",
               [](const at::Tensor& tensor) { return nested(tensor).get_storage_offsets(); });
}

}  // namespace gxu
