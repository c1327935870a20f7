#include "parts.h"

#include <ATen/SparseCsrTensorImpl.h>
#include <ATen/SparseTensorImpl.h>
#include <c10/util/Exception.h>

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

}  // namespace

std::vector<at::Tensor> parts_of(const at::Tensor& tensor) {
  if (is_coordinate(tensor)) {
    return {coordinate(tensor).indices(), coordinate(tensor).values()};
  }
  return {compressed(tensor).compressed_indices(), compressed(tensor).plain_indices(), compressed(tensor).values()};
}

at::Tensor assemble(const at::Tensor& like, const std::vector<at::Tensor>& parts) {
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

}  // namespace gxu
