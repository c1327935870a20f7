// Operators that only read or move bytes: where the CPU reaches the device's memory, they need no alias for it.
#include <ATen/CPUFunctions.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Operators.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/util/Load.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>

#include "allocator.h"
#include "direct_call.h"
#include "plain_access.h"

namespace gxu {
namespace {

// Elements that one thread takes on: PyTorch divides more among several.
constexpr int64_t kSmall = at::internal::GRAIN_SIZE;

// Whether the calling thread may access the memory of a gxu tensor itself, once the current stream has finished.
bool is_accessible(const at::Tensor& tensor) {
  if (C10_UNLIKELY(!tensor.defined())) {
    return false;
  }
  const c10::Device device = tensor.device();
  return device.type() == kGxu && LentAlias::suits(tensor) && device_delegate(device.index()) == Delegate::kCpu &&
         current_capture(device.index()) == nullptr;
}

bool is_small(const at::Tensor& tensor) { return tensor.numel() <= kSmall && is_accessible(tensor); }

at::Tensor make_result(at::IntArrayRef sizes, c10::ScalarType dtype) {
  return at::detail::empty_generic(sizes, &CachingAllocator::instance(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype, std::nullopt);
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  if (C10_UNLIKELY(!is_accessible(self))) {
    return DirectCall<at::_ops::_local_scalar_dense>::call(self);
  }
  const PlainAccess access(self.device().index());
  // The types that numbers mostly have, for which the CPU's kernel is twice as long.
  if (const void* value = self.const_data_ptr(); C10_LIKELY(value != nullptr)) {
    switch (self.scalar_type()) {
#define GXU_READ(type, name)       \
  case c10::ScalarType::name: {    \
    return c10::load<type>(value); \
  }
      AT_FORALL_SCALAR_TYPES_AND3(Bool, Half, BFloat16, GXU_READ)
#undef GXU_READ
      default:
        break;
    }
  }
  return at::cpu::_local_scalar_dense(self);
}

// In place of autograd's kernel, which would only pass the call on: a number has no gradient.
at::Scalar local_scalar_dense_below_autograd(c10::DispatchKeySet keys, const at::Tensor& self) {
  constexpr c10::DispatchKeySet plain({c10::DispatchKey::Dense, c10::DispatchKey::ADInplaceOrView});
  constexpr c10::DispatchKeySet backend(c10::BackendComponent::PrivateUse1Bit);  // which a difference of sets keeps
  const c10::DispatchKeySet rest = keys & c10::after_autograd_keyset;
  if (C10_LIKELY(rest - plain == backend)) {
    return local_scalar_dense(self);
  }
  const at::AutoDispatchBelowADInplaceOrView guard;
  return at::_ops::_local_scalar_dense::redispatch(rest, self);
}

at::Tensor& zero_(at::Tensor& self) {
  if (C10_UNLIKELY(!is_small(self) || !self.is_non_overlapping_and_dense())) {
    return DirectCall<at::_ops::zero_>::call(self);
  }
  const PlainAccess access(self.device().index());
  if (const size_t nbytes = self.numel() * self.element_size(); nbytes > 0) {
    std::memset(self.mutable_data_ptr(), 0, nbytes);
  }
  return self;
}

at::Tensor& fill_(at::Tensor& self, const at::Scalar& value) {
  if (C10_LIKELY(is_small(self) && self.is_non_overlapping_and_dense())) {
    switch (self.scalar_type()) {
#define GXU_FILL(type, name)                                                                  \
  case c10::ScalarType::name: {                                                               \
    const PlainAccess access(self.device().index());                                          \
    std::fill_n(static_cast<type*>(self.mutable_data_ptr()), self.numel(), value.to<type>()); \
    return self;                                                                              \
  }
      AT_FORALL_SCALAR_TYPES_AND3(Bool, Half, BFloat16, GXU_FILL)
#undef GXU_FILL
      default:
        break;
    }
  }
  return DirectCall<at::_ops::fill__Scalar, static_cast<at::_ops::fill__Scalar::schema*>(&at::cpu::fill_)>::call(self,
                                                                                                                 value);
}

// Whether `tensors` are small, of one device and one type, contiguous, and have one shape but for the dimension `dim`.
bool are_alike(at::MaterializedITensorListRef& tensors, int64_t dim) {
  const at::Tensor& first = tensors.front();
  int64_t numel = 0;
  for (const at::Tensor& tensor : tensors) {
    if (!is_accessible(tensor) || tensor.device() != first.device() || tensor.dtype() != first.dtype() ||
        tensor.dim() != first.dim() || !tensor.is_contiguous() ||
        tensor.suggest_memory_format() != at::MemoryFormat::Contiguous) {
      return false;
    }
    for (int64_t i = 0; i < first.dim(); ++i) {
      if (i != dim && tensor.size(i) != first.size(i)) {
        return false;
      }
    }
    numel += tensor.numel();
  }
  return numel <= kSmall;
}

at::Tensor cat(const at::ITensorListRef& list, int64_t dim) {
  auto tensors = list.materialize();
  const int64_t num_dims = tensors.empty() || !is_gxu(tensors.front()) ? 0 : tensors.front().get().dim();
  const int64_t wrapped = dim < 0 ? dim + num_dims : dim;
  if (C10_UNLIKELY(wrapped < 0 || wrapped >= num_dims || !are_alike(tensors, wrapped))) {
    return DirectCall<at::_ops::cat, static_cast<at::_ops::cat::schema*>(&at::cpu::cat)>::call(list, dim);
  }
  const at::Tensor& first = tensors.front();
  c10::SmallVector<int64_t, 6> sizes(first.sizes().begin(), first.sizes().end());
  int64_t count = 1;  // pieces of each tensor
  for (int64_t i = 0; i < wrapped; ++i) {
    count *= sizes[i];
  }
  sizes[wrapped] = 0;
  for (const at::Tensor& tensor : tensors) {
    sizes[wrapped] += tensor.size(wrapped);
  }
  const PlainAccess access(first.device().index());
  at::Tensor result = make_result(sizes, first.scalar_type());
  if (result.numel() == 0) {
    return result;
  }
  const size_t stride = result.numel() / count * result.element_size();
  char* end = static_cast<char*>(result.mutable_data_ptr());
  for (const at::Tensor& tensor : tensors) {
    const size_t nbytes = tensor.numel() / count * tensor.element_size();
    const char* from = static_cast<const char*>(tensor.const_data_ptr());
    for (int64_t i = 0; i < count && nbytes > 0; ++i) {
      std::memcpy(end + i * stride, from + i * nbytes, nbytes);
    }
    end += nbytes;
  }
  return result;
}

// Copies the rows of a matrix that `index` names. False, with nothing copied, where one is no row.
template <typename Index>
bool copy_rows(const at::Tensor& self, const at::Tensor& index, at::Tensor& result) {
  const Index* rows = static_cast<const Index*>(index.const_data_ptr());
  const int64_t count = index.numel();
  if (!std::all_of(rows, rows + count, [&](Index row) { return row >= 0 && row < self.size(0); })) {
    return false;
  }
  const size_t nbytes = self.numel() / self.size(0) * self.element_size();
  const char* from = static_cast<const char*>(self.const_data_ptr());
  char* to = static_cast<char*>(result.mutable_data_ptr());
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * nbytes, from + rows[i] * nbytes, nbytes);
  }
  return true;
}

// Rows, which is what embeddings want; anything else is the CPU's.
at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  const bool is_rows = dim == 0 && is_accessible(self) && is_accessible(index) && index.device() == self.device() &&
                       self.dim() >= 1 && self.numel() > 0 && self.is_contiguous() && index.dim() == 1 &&
                       index.is_contiguous() && index.numel() > 0 &&
                       (index.scalar_type() == at::kLong || index.scalar_type() == at::kInt) &&
                       self.numel() / self.size(0) <= kSmall / index.numel();
  if (C10_LIKELY(is_rows)) {
    c10::SmallVector<int64_t, 6> sizes(self.sizes().begin(), self.sizes().end());
    sizes[0] = index.numel();
    const PlainAccess access(self.device().index());
    at::Tensor result = make_result(sizes, self.scalar_type());
    if (index.scalar_type() == at::kLong ? copy_rows<int64_t>(self, index, result)
                                         : copy_rows<int32_t>(self, index, result)) {
      return result;
    }
  }
  return DirectCall<at::_ops::index_select, static_cast<at::_ops::index_select::schema*>(&at::cpu::index_select)>::call(
      self, dim, index);
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  library.impl("_local_scalar_dense", &local_scalar_dense_below_autograd);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_local_scalar_dense", &local_scalar_dense);
  library.impl("zero_", &zero_);
  library.impl("fill_.Scalar", &fill_);
  library.impl("cat", &cat);
  library.impl("index_select", &index_select);
}

}  // namespace
}  // namespace gxu
