// Operators that make tensors or change their geometry: they need no kernel, so gxu implements them itself.
#include "factory.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/ScalarTypeToTypeMeta.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include "allocator.h"
#include "copy.h"
#include "device_name.h"

namespace gxu {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

void check_options(std::optional<at::Layout> layout, std::optional<bool> pin_memory) {
  TORCH_CHECK_NOT_IMPLEMENTED(layout.value_or(at::kStrided) == at::kStrided, device_name(),
                              " tensors are dense: the layout ", *layout, " is not supported.");
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
}

c10::DeviceIndex device_index(std::optional<at::Device> device) {
  return resolve_device_index(device && device->has_index() ? device->index() : -1);
}

// As torch.utils.deterministic.fill_uninitialized_memory promises.
at::Tensor filled_where_deterministic(at::Tensor tensor) {
  const at::Context& context = at::globalContext();
  if (context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory()) [[unlikely]] {
    at::native::fill_empty_deterministic_(tensor);
  }
  return tensor;
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                 std::optional<at::Device> device, std::optional<bool> pin_memory,
                 std::optional<at::MemoryFormat> memory_format) {
  check_options(layout, pin_memory);
  const DeviceScope scope(device_index(device));
  return filled_where_deterministic(at::detail::empty_generic(size, &CachingAllocator::instance(), kKeys,
                                                              c10::dtype_or_default(dtype), memory_format));
}

at::Tensor empty_strided_dense(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                               std::optional<at::Layout> layout, std::optional<at::Device> device,
                               std::optional<bool> pin_memory) {
  check_options(layout, pin_memory);
  const DeviceScope scope(device_index(device));
  return filled_where_deterministic(empty_strided(size, stride, c10::dtype_or_default(dtype)));
}

at::Tensor& set_source_storage(at::Tensor& self, at::Storage source) {
  const auto numel = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return at::native::set_storage_cpu_(self, std::move(source), 0, {numel}, {});
}

at::Tensor& set_source_storage_offset(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
                                      at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

at::Tensor& set_nothing(at::Tensor& self) {
  at::Storage storage(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), 0,
      CachingAllocator::instance().allocate_on(self.device().index(), 0, self.device()), &CachingAllocator::instance(),
      true));
  return at::native::set_storage_cpu_(self, std::move(storage), 0, {0}, {});
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> memory_format) {
  const DeviceScope scope(self.device().index());
  return at::native::resize_(self, size, memory_format);
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  CachingAllocator::instance().recordStream(self.storage().data_ptr(), stream);
}

// Whether `x.data = y` may replace the memory of a tensor by that of another. PyTorch's own answer covers its own
// devices alone, so that Module.to("gxu") would make new parameters, and an optimizer that was made before would keep
// the old.
bool has_compatible_shallow_copy_type(const at::Tensor& self, const at::Tensor& from) {
  const auto is_dense = [](const at::Tensor& tensor) {
    return tensor.key_set().has(c10::DispatchKey::Dense) && (tensor.is_cpu() || tensor.device().type() == kGxu);
  };
  return (is_dense(self) && is_dense(from)) ||
         self.unsafeGetTensorImpl()->has_compatible_shallow_copy_type(from.key_set());
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  library.impl("_has_compatible_shallow_copy_type", &has_compatible_shallow_copy_type);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_has_compatible_shallow_copy_type", &has_compatible_shallow_copy_type);
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided_dense);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("view_as_real", &at::native::view_as_real);
  library.impl("view_as_complex", &at::native::view_as_complex);
  library.impl("unfold", &at::native::unfold);
  library.impl("set_.source_Storage", &set_source_storage);
  library.impl("set_.source_Storage_storage_offset", &set_source_storage_offset);
  library.impl("set_.source_Tensor", &at::native::set_tensor_);
  library.impl("set_", &set_nothing);
  library.impl("resize_", &resize_);
  library.impl("record_stream", &record_stream);
}

// What torch.load makes a quantized tensor with.
TORCH_LIBRARY_IMPL(aten, QuantizedPrivateUse1, library) {
  library.impl("set_.source_Storage_storage_offset", &set_source_storage_offset);
}

}  // namespace

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType dtype) {
  return at::detail::empty_strided_generic(size, stride, &CachingAllocator::instance(), kKeys, dtype);
}

}  // namespace gxu
