// CPU tensors in the place of a collective's gxu tensors, for a library that communicates from host memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace gxu {

// What a collective does with a tensor.
enum class TensorUse { kRead, kWrite, kReadWrite };

// The tensors of one collective. Where the CPU reaches device memory they are aliases, with nothing copied; elsewhere
// copies in pinned memory, which go back to the device after the collective.
class HostTensors {
 public:
  // `collective` is what errors call it: "gxuccl broadcast".
  explicit HostTensors(std::string collective) : collective_(std::move(collective)) {}

  // The CPU tensor for a gxu tensor. It has its contents from wait_for_streams on.
  at::Tensor add(const at::Tensor& tensor, TensorUse use);

  // The same for data that the collective only moves, as a dtype that the host library has: another one of the same
  // size in bytes where need be, and pairs of numbers for complex ones of 16 bytes.
  at::Tensor add_moved(const at::Tensor& tensor, TensorUse use);
  std::vector<at::Tensor> add_moved(const std::vector<at::Tensor>& tensors, TensorUse use);
  std::vector<std::vector<at::Tensor>> add_moved(const std::vector<std::vector<at::Tensor>>& lists, TensorUse use);

  // After the collective, and before copies to the device: divides the results by `divisor`, as ReduceOp.AVG does.
  void divide_results(int divisor) { divisor_ = divisor; }
  // After the collective: copies `from`, a tensor that was added, to `to`, which has another dtype. Both are on gxu.
  void convert_result(const at::Tensor& to, const at::Tensor& from) { conversions_.push_back({to, from}); }

  // Waits until the calling thread's current streams have done what they hold, with the GIL released.
  void wait_for_streams() const;

  // Gives the device the results. From any thread; done on return.
  void write_back();

  const std::string& collective() const { return collective_; }

 private:
  struct Copy {
    at::Tensor to;
    at::Tensor from;
  };

  std::string collective_;
  std::vector<c10::Device> devices_;
  std::vector<at::Tensor> results_;  // CPU tensors that the collective writes
  std::vector<Copy> uploads_;
  std::vector<Copy> conversions_;
  int divisor_ = 1;
};

// The tensors that `function` makes of others.
template <typename Function>
std::vector<at::Tensor> transformed(const std::vector<at::Tensor>& tensors, Function function) {
  std::vector<at::Tensor> result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    result.push_back(function(tensor));
  }
  return result;
}

}  // namespace gxu
