#include "graph_outputs.h"

#include <algorithm>

#include "alias.h"
#include "allocator.h"
#include "device.h"
#include "runtime.h"
#include "stream.h"

namespace gxu {
namespace {

void enqueue_bytes(const at::Tensor& to, const at::Tensor& from) {
  const c10::DeviceIndex device = to.device().index();
  const DeviceScope scope(device);
  GXU_CALL(gxuMemcpyAsync, to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes(), gxuMemcpyDeviceToDevice,
           native_stream(current_stream_id(device)));
}

}  // namespace

GraphOutputs::GraphOutputs(std::vector<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.device().type() == kGxu && tensor.has_storage(), "A result of a graph is on gxu and dense.");
    // The tensor of the capture may have Python objects that keep more of it alive: one of our own has none.
    tensors_.push_back(make_view(tensor.storage(), tensor));
    const auto same = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) {
      return tensors_[group.members.front()].storage().is_alias_of(tensor.storage());
    });
    if (same == groups_.end()) {
      groups_.push_back({{tensors_.size() - 1}});
    } else {
      same->members.push_back(tensors_.size() - 1);
    }
  }
}

std::vector<at::Tensor> GraphOutputs::tensors() const {
  std::vector<at::Tensor> result;
  result.reserve(tensors_.size());
  for (const at::Tensor& tensor : tensors_) {
    result.push_back(make_view(tensor.storage(), tensor));
  }
  return result;
}

size_t GraphOutputs::move_out_living() {
  size_t moved = 0;
  for (const Group& group : groups_) {
    if (tensors_[group.members.front()].storage().use_count() > group.members.size()) {
      move_out(group);
      ++moved;
    }
  }
  return moved;
}

// The storage that others hold gets new memory; our tensors get a new storage on the graph's memory.
void GraphOutputs::move_out(const Group& group) {
  c10::StorageImpl& living = *tensors_[group.members.front()].storage().unsafeGetStorageImpl();
  const c10::Device device = living.device();
  at::DataPtr memory = CachingAllocator::instance().allocate_on(device.index(), living.nbytes(), device);
  if (living.nbytes() > 0) {
    const DeviceScope scope(device.index());
    GXU_CALL(gxuMemcpyAsync, memory.get(), living.data(), living.nbytes(), gxuMemcpyDeviceToDevice,
             native_stream(current_stream_id(device.index())));
  }
  c10::Storage ours(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), living.nbytes(),
                                                          living.set_data_ptr(std::move(memory)),
                                                          &CachingAllocator::instance(), true));
  for (const size_t member : group.members) {
    tensors_[member] = make_view(ours, tensors_[member]);
  }
}

void enqueue_copies(const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from) {
  TORCH_CHECK(to.size() == from.size(), "enqueue_copies: ", to.size(), " tensors to copy to, and ", from.size(),
              " to copy from");
  for (size_t i = 0; i < to.size(); ++i) {
    const bool same_bytes = to[i].device() == from[i].device() && to[i].dtype() == from[i].dtype() &&
                            to[i].sizes() == from[i].sizes() && to[i].strides() == from[i].strides() &&
                            from[i].is_non_overlapping_and_dense();
    if (!same_bytes) {
      to[i].copy_(from[i]);
    } else if (from[i].numel() > 0) {
      enqueue_bytes(to[i], from[i]);
    }
  }
}

}  // namespace gxu
