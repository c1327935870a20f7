#include "lent_alias.h"

#include <ATen/EmptyTensor.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/InferenceMode.h>

#include <array>
#include <memory>

#include "alias.h"

namespace gxu {
namespace {

const c10::Device kCpuDevice(c10::DeviceType::CPU);

// For a handful of numbers a loop takes less than the call that the comparison of two ArrayRefs is.
bool are_equal(c10::IntArrayRef a, c10::IntArrayRef b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

// An alias, and the storage that it has unless an operator gave it another.
struct LentAlias::Slot {
  Slot()
      : storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), 0,
                                                      at::DataPtr(nullptr, kCpuDevice), c10::GetCPUAllocator(), true)) {
    const c10::InferenceMode normal(false);  // whatever the mode of the first call
    alias = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                     caffe2::TypeMeta::Make<float>());
  }

  // Nobody else holds the alias or what it was made of.
  bool is_returned() const {
    return alias.use_count() == 1 && storage.use_count() == 2 &&
           alias.unsafeGetTensorImpl()->unsafe_storage().is_alias_of(storage);
  }

  c10::Storage storage;
  at::Tensor alias;
};

// The slots of a thread that are not lent.
struct LentAlias::Slots {
  static Slots& of_thread() {
    if (C10_UNLIKELY(current == nullptr)) {
      current = new Slots;
      if (!ended) {
        static thread_local const std::unique_ptr<Slots, void (*)(Slots*)> owner(current, &end);
      }
    }
    return *current;
  }

  Slot* take() { return C10_LIKELY(count > 0) ? free[--count] : new Slot; }
  void put(Slot* slot) {
    if (C10_LIKELY(count < free.size())) {
      free[count++] = slot;
    } else {
      delete slot;
    }
  }
  ~Slots() {
    while (count > 0) {
      delete free[--count];
    }
  }

  static void end(Slots* slots) {
    current = nullptr;
    ended = true;
    delete slots;
  }

  // As thread_state.h's.
  static constinit thread_local Slots* current __attribute__((tls_model("initial-exec")));
  static constinit thread_local bool ended;  // other destructors of the thread may still call operators

  std::array<Slot*, 32> free;
  size_t count = 0;
};

constinit thread_local LentAlias::Slots* LentAlias::Slots::current = nullptr;
constinit thread_local bool LentAlias::Slots::ended = false;

LentAlias::LentAlias(const at::Tensor& original, bool is_written)
    : original_(&original), slot_(Slots::of_thread().take()), alias_(&slot_->alias) {
  const c10::TensorImpl* from = original.unsafeGetTensorImpl();
  c10::StorageImpl* storage = from->unsafe_storage().unsafeGetStorageImpl();
  memory_ = is_written ? storage->mutable_data() : const_cast<void*>(storage->data());
  c10::StorageImpl* lent = slot_->storage.unsafeGetStorageImpl();
  lent->set_data_ptr_noswap(at::DataPtr(memory_, kCpuDevice));
  lent->set_nbytes(storage->nbytes());
  c10::TensorImpl* impl = alias_->unsafeGetTensorImpl();
  if (impl->dtype() != from->dtype()) {
    impl->set_storage_and_dtype(slot_->storage, from->dtype());
  }
  if (!are_equal(impl->sizes(), from->sizes()) || !are_equal(impl->strides(), from->strides()) ||
      impl->storage_offset() != from->storage_offset()) {
    impl->set_sizes_and_strides(from->sizes(), from->strides(), from->storage_offset());
  }
}

LentAlias::~LentAlias() {
  if (C10_LIKELY(slot_->is_returned())) {
    Slots::of_thread().put(slot_);
    return;
  }
  // What was kept keeps the memory alive from here on, unless it has other memory by now.
  c10::StorageImpl* lent = slot_->storage.unsafeGetStorageImpl();
  if (lent->data() == memory_ && lent->data_ptr().get_context() == nullptr) {
    c10::StorageImpl* storage = original_->unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
    lent->set_data_ptr_noswap(share_for_reading(storage, kCpuDevice));
  }
  delete slot_;
}

void LentAlias::write_back() const {
  const c10::TensorImpl* impl = alias_->unsafeGetTensorImpl();
  const c10::TensorImpl* original = original_->unsafeGetTensorImpl();
  if (C10_UNLIKELY(impl->unsafe_storage().data() != memory_ || !are_equal(impl->sizes(), original->sizes()) ||
                   !are_equal(impl->strides(), original->strides()))) {
    write_back_geometry(*original_, *alias_);
  }
}

}  // namespace gxu
