// What a collective returns: torch.distributed.Work.
#pragma once

#include <ATen/core/ivalue.h>

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

#include "host_tensors.h"

namespace gxu {

// Who notices that the host library has finished.
enum class Completion {
  kByFuture,  // the library's thread, through the future of its work
  kByWait,    // wait(): gloo's send and recv have no thread and no future
};

// The host library's error as torch.distributed.DistBackendError, which says what was being done: `name` is
// "gxuccl broadcast on rank 0 of 2".
std::exception_ptr named_error(const std::string& name, const std::exception_ptr& error);

// A collective that the host library executes. wait() blocks the calling thread: the results are in device memory on
// return, so every stream sees them. Errors and timeouts are thrown there, under the collective's name.
class CollectiveWork final : public c10d::Work {
 public:
  // `outputs`: the gxu tensors of result() and of the future.
  static c10::intrusive_ptr<CollectiveWork> create(c10d::OpType op, int rank, std::string name,
                                                   c10::intrusive_ptr<c10d::Work> host_work, HostTensors tensors,
                                                   std::vector<at::Tensor> outputs, Completion completion);

  CollectiveWork(c10d::OpType op, int rank, std::string name, c10::intrusive_ptr<c10d::Work> host_work,
                 HostTensors tensors, std::vector<at::Tensor> outputs, Completion completion);

  bool wait(std::chrono::milliseconds timeout) override;
  void synchronize() override;
  void blockCurrentStream() override;
  void abort() override;
  std::vector<at::Tensor> result() override { return outputs_; }
  // A List[Tensor] of the outputs.
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  int sourceRank() const override { return host_work_->sourceRank(); }
  uint64_t getSequencenumber() const override { return host_work_->getSequencenumber(); }

 private:
  void complete(std::exception_ptr error);
  bool wait_for_host(std::chrono::milliseconds timeout);

  const std::string name_;
  const c10::intrusive_ptr<c10d::Work> host_work_;
  HostTensors tensors_;
  const std::vector<at::Tensor> outputs_;
  const Completion completion_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

}  // namespace gxu
