#include "process_group.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "../device.h"
#include "../gil.h"
#include "../stream.h"
#include "reduction.h"

namespace gxu {
namespace {

std::vector<at::Tensor> flatten(const std::vector<std::vector<at::Tensor>>& lists) {
  std::vector<at::Tensor> result;
  for (const std::vector<at::Tensor>& list : lists) {
    result.insert(result.end(), list.begin(), list.end());
  }
  return result;
}

bool have_one_size(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const at::Tensor& tensor) { return tensor.sizes() == tensors[0].sizes(); });
}

at::ScalarType dtype_of(const std::vector<at::Tensor>& tensors, const HostTensors& host) {
  TORCH_CHECK(!tensors.empty() && tensors[0].defined(), host.collective(), " takes at least one tensor, but got none");
  return tensors[0].scalar_type();
}

// Flat views of the equal parts of a contiguous tensor, one for each rank.
std::vector<at::Tensor> split_for_ranks(const at::Tensor& tensor, int size, const HostTensors& host) {
  TORCH_CHECK_VALUE(tensor.is_contiguous() && tensor.numel() % size == 0, host.collective(),
                    " takes contiguous tensors of which each of the ", size, " ranks has an equal part, but got size ",
                    tensor.sizes(), " with strides ", tensor.strides());
  return tensor.view({size, tensor.numel() / size}).unbind();
}

// The memory of a contiguous tensor.
at::Tensor as_bytes(const at::Tensor& tensor) { return tensor.view(-1).view(at::kByte); }

// With the operator that the host library is asked for.
template <typename Options>
Options with_operator(const Options& options, const Reduction& reduction) {
  Options result = options;
  result.reduceOp = reduction.host_op();
  return result;
}

void wait_for_current_stream(const c10d::BarrierOptions& options, std::optional<c10::Device> bound_device) {
  const GilRelease no_gil;
  const auto device = options.device && options.device->type() == kGxu ? options.device : bound_device;
  const c10::DeviceIndex index = !options.device_ids.empty()     ? static_cast<c10::DeviceIndex>(options.device_ids[0])
                                 : device && device->has_index() ? device->index()
                                                                 : current_device();
  synchronize_stream(index, current_stream_id(index));
}

using BelowAutograd = at::AutoDispatchBelowADInplaceOrView;

}  // namespace

ProcessGroup::ProcessGroup(c10::intrusive_ptr<c10d::Backend> host, std::string name)
    : c10d::Backend(host->getRank(), host->getSize()), host_(std::move(host)), name_(std::move(name)) {}

void ProcessGroup::setGroupUid(const std::string& uid) {
  c10d::Backend::setGroupUid(uid);
  host_->setGroupUid(uid);
}

template <typename Call>
ProcessGroup::WorkPtr ProcessGroup::run(c10d::OpType op, HostTensors tensors, Tensors outputs, Call call,
                                        Completion completion) {
  tensors.wait_for_streams();
  std::string name = c10::str(tensors.collective(), " on rank ", rank_, " of ", size_);
  WorkPtr host_work;
  try {
    host_work = call();
  } catch (const c10::Error&) {
    throw;  // arguments that the host library does not take
  } catch (...) {
    std::rethrow_exception(named_error(name, std::current_exception()));
  }
  return CollectiveWork::create(op, rank_, std::move(name), std::move(host_work), std::move(tensors),
                                std::move(outputs), completion);
}

ProcessGroup::WorkPtr ProcessGroup::broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("broadcast");
  Tensors buffers = host.add_moved(tensors, options.rootRank == rank_ ? TensorUse::kRead : TensorUse::kWrite);
  return run(c10d::OpType::BROADCAST, std::move(host), tensors, [&] { return host_->broadcast(buffers, options); });
}

ProcessGroup::WorkPtr ProcessGroup::allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allreduce");
  Reduction reduction(options.reduceOp, dtype_of(tensors, host), size_, host);
  Tensors buffers = reduction.add_in_place(tensors);
  return run(c10d::OpType::ALLREDUCE, std::move(host), tensors,
             [&] { return host_->allreduce(buffers, with_operator(options, reduction)); });
}

ProcessGroup::WorkPtr ProcessGroup::allreduce_coalesced(Tensors& tensors,
                                                        const c10d::AllreduceCoalescedOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allreduce_coalesced");
  Reduction reduction(options.reduceOp, dtype_of(tensors, host), size_, host);
  Tensors buffers = reduction.add_in_place(tensors);
  return run(c10d::OpType::ALLREDUCE_COALESCED, std::move(host), tensors,
             [&] { return host_->allreduce_coalesced(buffers, with_operator(options, reduction)); });
}

ProcessGroup::WorkPtr ProcessGroup::reduce(Tensors& tensors, const c10d::ReduceOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce");
  Reduction reduction(options.reduceOp, dtype_of(tensors, host), size_, host);
  Tensors buffers = reduction.add_in_place(tensors);
  return run(c10d::OpType::REDUCE, std::move(host), tensors,
             [&] { return host_->reduce(buffers, with_operator(options, reduction)); });
}

ProcessGroup::WorkPtr ProcessGroup::allgather(TensorLists& outputs, Tensors& inputs,
                                              const c10d::AllgatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allgather");
  if (outputs.size() == 1 && inputs.size() == 1 && !have_one_size(outputs[0])) {
    return allgather_padded(std::move(host), outputs[0], inputs[0], options);
  }
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  TensorLists targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::ALLGATHER, std::move(host), flatten(outputs),
             [&] { return host_->allgather(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::allgather_padded(HostTensors host, const Tensors& outputs, const at::Tensor& input,
                                                     const c10d::AllgatherOptions& options) {
  TORCH_CHECK_VALUE(static_cast<int>(outputs.size()) == size_ && input.sizes() == outputs[rank_].sizes(),
                    host.collective(), " takes one output for each of the ", size_, " ranks, that of rank ", rank_,
                    " with the size of its input, ", input.sizes());
  int64_t largest = 0;
  for (const at::Tensor& output : outputs) {
    largest = std::max(largest, as_movable(output).numel());
  }
  const at::Tensor contents = as_movable(input).reshape(-1);
  Tensors sources{HostTensors::make_buffer(largest, contents)};
  sources[0].narrow(0, 0, contents.numel()).copy_(contents, /*non_blocking=*/true);
  TensorLists targets(1);
  for (const at::Tensor& output : outputs) {
    const at::Tensor target = as_movable(output);
    targets[0].push_back(HostTensors::make_buffer(largest, target));
    host.add_result(target, targets[0].back().narrow(0, 0, target.numel()).view(target.sizes()));
  }
  return run(c10d::OpType::ALLGATHER, std::move(host), outputs,
             [&] { return host_->allgather(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                    const c10d::AllgatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allgather_into_tensor");
  // Flat: the host library divides the first dimension among the ranks, whatever it is.
  at::Tensor source = host.add_moved(input, TensorUse::kRead).view(-1);
  at::Tensor target = host.add_moved(output, TensorUse::kWrite).view(-1);
  return run(c10d::OpType::_ALLGATHER_BASE, std::move(host), {output},
             [&] { return host_->_allgather_base(target, source, options); });
}

ProcessGroup::WorkPtr ProcessGroup::allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                                                        const c10d::AllgatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allgather_coalesced");
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  TensorLists targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::ALLGATHER_COALESCED, std::move(host), flatten(outputs),
             [&] { return host_->allgather_coalesced(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                    const c10d::AllgatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allgather_into_tensor_coalesced");
  // Bytes, as the tensors may be of several dtypes.
  Tensors sources;
  TensorLists targets(size_);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensors parts = split_for_ranks(outputs.at(i), size_, host);
    sources.push_back(host.add(as_bytes(inputs[i]), TensorUse::kRead));
    for (int rank = 0; rank < size_; ++rank) {
      targets[rank].push_back(host.add(as_bytes(parts[rank]), TensorUse::kWrite));
    }
  }
  return run(c10d::OpType::COALESCED, std::move(host), outputs,
             [&] { return host_->allgather_coalesced(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::gather(TensorLists& outputs, Tensors& inputs, const c10d::GatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("gather");
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  TensorLists targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::GATHER, std::move(host), flatten(outputs),
             [&] { return host_->gather(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::scatter(Tensors& outputs, TensorLists& inputs,
                                            const c10d::ScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("scatter");
  TensorLists sources = host.add_moved(inputs, TensorUse::kRead);
  Tensors targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::SCATTER, std::move(host), outputs,
             [&] { return host_->scatter(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::reduce_parts(c10d::OpType op, HostTensors host, const Tensors& outputs,
                                                 const TensorLists& parts, const c10d::ReduceScatterOptions& options) {
  Reduction reduction(options.reduceOp, dtype_of(outputs, host), size_, host);
  Tensors inputs;
  for (const Tensors& list : parts) {
    TORCH_CHECK_VALUE(static_cast<int>(list.size()) == size_, host.collective(), " takes one tensor for each of the ",
                      size_, " ranks, but got ", list.size());
    for (const at::Tensor& part : list) {
      inputs.push_back(reduction.input(part));
    }
  }
  Tensors buffers{host.add_concatenated(inputs)};
  int64_t offset = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t numel = inputs[i].numel();
    if (static_cast<int>(i % size_) == rank_) {
      const at::Tensor& output = outputs[i / size_];
      TORCH_CHECK_VALUE(output.numel() == parts[i / size_][rank_].numel(), host.collective(), ": the output of size ",
                        output.sizes(), " is for a part of size ", parts[i / size_][rank_].sizes());
      reduction.add_result(output, buffers[0].narrow(0, offset, numel));
    }
    offset += numel;
  }
  c10d::AllreduceOptions allreduce_options;
  allreduce_options.reduceOp = reduction.host_op();
  allreduce_options.timeout = options.timeout;
  allreduce_options.asyncOp = options.asyncOp;
  return run(op, std::move(host), outputs, [&] { return host_->allreduce(buffers, allreduce_options); });
}

ProcessGroup::WorkPtr ProcessGroup::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                                   const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  return reduce_parts(c10d::OpType::REDUCE_SCATTER, host_tensors("reduce_scatter"), outputs, inputs, options);
}

ProcessGroup::WorkPtr ProcessGroup::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                         const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce_scatter_tensor");
  const TensorLists parts{split_for_ranks(input, size_, host)};
  return reduce_parts(c10d::OpType::_REDUCE_SCATTER_BASE, std::move(host), {output}, parts, options);
}

ProcessGroup::WorkPtr ProcessGroup::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                    const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce_scatter_tensor_coalesced");
  TensorLists parts;
  for (const at::Tensor& input : inputs) {
    parts.push_back(split_for_ranks(input, size_, host));
  }
  return reduce_parts(c10d::OpType::COALESCED, std::move(host), outputs, parts, options);
}

ProcessGroup::WorkPtr ProcessGroup::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                  std::vector<int64_t>& output_splits,
                                                  std::vector<int64_t>& input_splits,
                                                  const c10d::AllToAllOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("all_to_all_single");
  at::Tensor source = host.add_moved(input, TensorUse::kRead);
  at::Tensor target = host.add_moved(output, TensorUse::kWrite);
  return run(c10d::OpType::ALLTOALL_BASE, std::move(host), {output},
             [&] { return host_->alltoall_base(target, source, output_splits, input_splits, options); });
}

ProcessGroup::WorkPtr ProcessGroup::alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("all_to_all");
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  Tensors targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::ALLTOALL, std::move(host), outputs,
             [&] { return host_->alltoall(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::send(Tensors& tensors, int destination, int tag) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("send");
  Tensors buffers = host.add_moved(tensors, TensorUse::kRead);
  return run(
      c10d::OpType::SEND, std::move(host), tensors, [&] { return host_->send(buffers, destination, tag); },
      Completion::kByWait);
}

ProcessGroup::WorkPtr ProcessGroup::recv(Tensors& tensors, int source, int tag) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("recv");
  Tensors buffers = host.add_moved(tensors, TensorUse::kWrite);
  return run(
      c10d::OpType::RECV, std::move(host), tensors, [&] { return host_->recv(buffers, source, tag); },
      Completion::kByWait);
}

ProcessGroup::WorkPtr ProcessGroup::recvAnysource(Tensors& tensors, int tag) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("recv from any rank");
  Tensors buffers = host.add_moved(tensors, TensorUse::kWrite);
  return run(
      c10d::OpType::RECVANYSOURCE, std::move(host), tensors, [&] { return host_->recvAnysource(buffers, tag); },
      Completion::kByWait);
}

ProcessGroup::WorkPtr ProcessGroup::barrier(const c10d::BarrierOptions& options) {
  wait_for_current_stream(options, bound_device_id_);
  return run(c10d::OpType::BARRIER, host_tensors("barrier"), {}, [&] { return host_->barrier(options); });
}

void ProcessGroup::monitoredBarrier(const c10d::BarrierOptions& options, bool wait_for_all_ranks) {
  wait_for_current_stream(options, bound_device_id_);
  host_->monitoredBarrier(options, wait_for_all_ranks);
}

}  // namespace gxu
