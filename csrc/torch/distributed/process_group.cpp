#include "process_group.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/util/Exception.h>

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

at::ScalarType dtype_of(const std::vector<at::Tensor>& tensors, const HostTensors& host) {
  TORCH_CHECK(!tensors.empty() && tensors[0].defined(), host.collective(), " takes at least one tensor, but got none");
  return tensors[0].scalar_type();
}

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
  WorkPtr host_work = call();
  return CollectiveWork::create(op, rank_, size_, std::move(host_work), std::move(tensors), std::move(outputs),
                                completion);
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
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  TensorLists targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::ALLGATHER, std::move(host), flatten(outputs),
             [&] { return host_->allgather(targets, sources, options); });
}

ProcessGroup::WorkPtr ProcessGroup::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                    const c10d::AllgatherOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("allgather_into_tensor");
  at::Tensor source = host.add_moved(input, TensorUse::kRead);
  at::Tensor target = host.add_moved(output, TensorUse::kWrite);
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
  Tensors sources = host.add_moved(inputs, TensorUse::kRead);
  Tensors targets = host.add_moved(outputs, TensorUse::kWrite);
  return run(c10d::OpType::COALESCED, std::move(host), outputs,
             [&] { return host_->allgather_into_tensor_coalesced(targets, sources, options); });
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

ProcessGroup::WorkPtr ProcessGroup::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                                   const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce_scatter");
  Reduction reduction(options.reduceOp, dtype_of(outputs, host), size_, host);
  TensorLists sources;
  for (const Tensors& list : inputs) {
    sources.push_back(reduction.add_input(list));
  }
  Tensors targets = reduction.add_output(outputs);
  return run(c10d::OpType::REDUCE_SCATTER, std::move(host), outputs,
             [&] { return host_->reduce_scatter(targets, sources, with_operator(options, reduction)); });
}

ProcessGroup::WorkPtr ProcessGroup::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                         const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce_scatter_tensor");
  Reduction reduction(options.reduceOp, output.scalar_type(), size_, host);
  at::Tensor source = reduction.add_input(input);
  at::Tensor target = reduction.add_output(output);
  return run(c10d::OpType::_REDUCE_SCATTER_BASE, std::move(host), {output},
             [&] { return host_->_reduce_scatter_base(target, source, with_operator(options, reduction)); });
}

ProcessGroup::WorkPtr ProcessGroup::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                    const c10d::ReduceScatterOptions& options) {
  const BelowAutograd guard;
  HostTensors host = host_tensors("reduce_scatter_tensor_coalesced");
  Reduction reduction(options.reduceOp, dtype_of(outputs, host), size_, host);
  Tensors sources = reduction.add_input(inputs);
  Tensors targets = reduction.add_output(outputs);
  return run(c10d::OpType::REDUCE_SCATTER_TENSOR_COALESCED, std::move(host), outputs, [&] {
    return host_->reduce_scatter_tensor_coalesced(targets, sources, with_operator(options, reduction));
  });
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
