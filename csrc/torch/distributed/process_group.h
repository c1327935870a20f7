// The device's backend of torch.distributed: every collective on gxu tensors, executed by a library for host memory.
#pragma once

#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "collective_work.h"

namespace gxu {

// Hands the collectives of gxu tensors to `host`, a backend for CPU tensors (gloo). A call waits for what the current
// streams of its tensors hold, so that it is ordered like an operator, and returns before the collective is done.
// Where the CPU reaches device memory nothing is copied: see HostTensors.
class ProcessGroup final : public c10d::Backend {
 public:
  ProcessGroup(c10::intrusive_ptr<c10d::Backend> host, std::string name);

  const std::string getBackendName() const override { return name_; }
  c10::intrusive_ptr<Options> getBackendOptions() override { return host_->getBackendOptions(); }
  void setTimeout(std::chrono::milliseconds timeout) override { host_->setTimeout(timeout); }
  void setGroupUid(const std::string& uid) override;
  void setSequenceNumberForGroup() override { host_->setSequenceNumberForGroup(); }
  uint64_t getSequenceNumberForGroup() override { return host_->getSequenceNumberForGroup(); }
  void enableCollectivesTiming() override { host_->enableCollectivesTiming(); }
  c10d::ErrorType getError() override { return c10d::ErrorType::SUCCESS; }
  void abort() override { host_->abort(); }
  void shutdown() override { host_->shutdown(); }

  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<std::vector<at::Tensor>>;
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& options) override;
  WorkPtr allgather(TensorLists& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_coalesced(TensorLists& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& options) override;
  WorkPtr gather(TensorLists& outputs, Tensors& inputs, const c10d::GatherOptions& options) override;
  WorkPtr scatter(Tensors& outputs, TensorLists& inputs, const c10d::ScatterOptions& options) override;
  WorkPtr reduce_scatter(Tensors& outputs, TensorLists& inputs, const c10d::ReduceScatterOptions& options) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& options) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits, const c10d::AllToAllOptions& options) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) override;
  WorkPtr send(Tensors& tensors, int destination, int tag) override;
  WorkPtr recv(Tensors& tensors, int source, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& options) override;
  void monitoredBarrier(const c10d::BarrierOptions& options, bool wait_for_all_ranks) override;

 private:
  HostTensors host_tensors(const char* collective) const { return HostTensors(name_ + ' ' + collective); }

  // reduce_scatter, where parts[i][r] is what rank r contributes to, and gets of, outputs[i]: an allreduce of all
  // parts. That is what gloo makes of it too, but its own has no future.
  WorkPtr reduce_parts(c10d::OpType op, HostTensors host, const Tensors& outputs, const TensorLists& parts,
                       const c10d::ReduceScatterOptions& options);
  // allgather of tensors of several sizes, by buffers of the largest.
  WorkPtr allgather_padded(HostTensors host, const Tensors& outputs, const at::Tensor& input,
                           const c10d::AllgatherOptions& options);

  // Waits for the streams, has the host library start by `call()`, and returns the work.
  template <typename Call>
  WorkPtr run(c10d::OpType op, HostTensors tensors, Tensors outputs, Call call,
              Completion completion = Completion::kByFuture);

  const c10::intrusive_ptr<c10d::Backend> host_;
  const std::string name_;
};

}  // namespace gxu
