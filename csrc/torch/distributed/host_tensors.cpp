#include "host_tensors.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/StreamGuard.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "../alias.h"
#include "../device.h"
#include "../device_name.h"
#include "../gil.h"
#include "../graph_capture.h"
#include "../stream.h"

namespace gxu {
namespace {

// What gloo has templates for. bfloat16 is not among them in every version.
bool is_known_to_host(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kChar:
    case at::kByte:
    case at::kInt:
    case at::kLong:
      return true;
    default:
      return false;
  }
}

}  // namespace

at::Tensor as_movable(const at::Tensor& tensor) {
  if (!is_gxu(tensor) || is_known_to_host(tensor.scalar_type()) || tensor.layout() != at::kStrided ||
      tensor.is_quantized()) {
    return tensor;
  }
  switch (tensor.element_size()) {
    case 1:
      return tensor.view(at::kByte);
    case 2:
      return tensor.view(at::kHalf);
    case 4:
      return tensor.view(at::kInt);
    case 8:
      return tensor.view(at::kLong);
    default:
      return at::view_as_real(tensor);
  }
}

void HostTensors::check(const at::Tensor& tensor) {
  TORCH_CHECK(is_gxu(tensor), collective_, " takes ", device_name(), " tensors, but got one ",
              tensor.defined() ? "on " + tensor.device().str() : "that is undefined",
              ": move it there, or create the group with a backend for its device as well (cpu:gloo,", device_name(),
              ":", device_name(), "ccl)");
  TORCH_CHECK(tensor.layout() == at::kStrided && !tensor.is_quantized(), collective_,
              " takes dense tensors, but got one with layout ", tensor.layout(), " and dtype ", tensor.scalar_type(),
              ": use to_dense() or dequantize()");
  TORCH_CHECK(!tensor.is_conj() && !tensor.is_neg(), collective_,
              " takes tensors as they are in memory, but got one with a pending conjugation or negation: use "
              "resolve_conj() or resolve_neg()");
  TORCH_CHECK(tensor.is_contiguous(tensor.suggest_memory_format()), collective_,
              " takes contiguous tensors, but got one of size ", tensor.sizes(), " with strides ", tensor.strides(),
              ": use contiguous()");
  const c10::Device device = tensor.device();
  forbid_in_capture(device.index(), collective_.c_str());
  if (std::find(devices_.begin(), devices_.end(), device) == devices_.end()) {
    devices_.push_back(device);
  }
}

at::Tensor HostTensors::add(const at::Tensor& tensor, TensorUse use) {
  check(tensor);
  at::Tensor host;
  if (device_delegate(tensor.device().index()) == Delegate::kCpu) {
    host = alias_as_cpu(tensor);
  } else {
    host = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU).pinned_memory(true));
    if (use != TensorUse::kWrite) {
      host.copy_(tensor, /*non_blocking=*/true);
    }
    if (use != TensorUse::kRead) {
      uploads_.push_back({tensor, host});
    }
  }
  if (use != TensorUse::kRead) {
    results_.push_back(host);
  }
  return host;
}

at::Tensor HostTensors::make_buffer(int64_t numel, const at::Tensor& like) {
  return at::empty({numel}, like.options().device(at::kCPU).pinned_memory(true));
}

at::Tensor HostTensors::add_concatenated(const std::vector<at::Tensor>& tensors) {
  int64_t numel = 0;
  for (const at::Tensor& tensor : tensors) {
    check(tensor);
    numel += tensor.numel();
  }
  at::Tensor host = make_buffer(numel, tensors.at(0));
  int64_t offset = 0;
  for (const at::Tensor& tensor : tensors) {
    host.narrow(0, offset, tensor.numel()).copy_(tensor, /*non_blocking=*/true);
    offset += tensor.numel();
  }
  return host;
}

void HostTensors::add_result(const at::Tensor& tensor, const at::Tensor& host) {
  check(tensor);
  results_.push_back(host);
  uploads_.push_back({tensor, host});
}

at::Tensor HostTensors::add_moved(const at::Tensor& tensor, TensorUse use) { return add(as_movable(tensor), use); }

std::vector<at::Tensor> HostTensors::add_moved(const std::vector<at::Tensor>& tensors, TensorUse use) {
  return transformed(tensors, [&](const at::Tensor& tensor) { return add_moved(tensor, use); });
}

std::vector<std::vector<at::Tensor>> HostTensors::add_moved(const std::vector<std::vector<at::Tensor>>& lists,
                                                            TensorUse use) {
  std::vector<std::vector<at::Tensor>> result;
  result.reserve(lists.size());
  for (const std::vector<at::Tensor>& list : lists) {
    result.push_back(add_moved(list, use));
  }
  return result;
}

void HostTensors::wait_for_streams() const {
  const GilRelease no_gil;
  for (const c10::Device device : devices_) {
    synchronize_stream(device.index(), current_stream_id(device.index()));
  }
}

void HostTensors::write_back() {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  if (divisor_ != 1) {
    for (at::Tensor& result : results_) {
      if (at::isIntegralType(result.scalar_type(), /*includeBool=*/false)) {
        result.div_(divisor_, "trunc");
      } else {
        result.div_(divisor_);
      }
    }
  }
  if (uploads_.empty() && conversions_.empty()) {
    return;
  }
  // A stream of its own: the thread's current one may hold work that comes later.
  std::vector<c10::Stream> streams;
  for (const c10::Device device : devices_) {
    streams.push_back(stream_from_pool(device.index(), 0));
  }
  const c10::MultiStreamGuard guard(streams);
  for (const Copy& upload : uploads_) {
    upload.to.copy_(upload.from, /*non_blocking=*/true);
  }
  for (const Copy& conversion : conversions_) {
    conversion.to.copy_(conversion.from);
  }
  for (const c10::Stream stream : streams) {
    synchronize_stream(stream.device_index(), stream.id());
  }
}

}  // namespace gxu
