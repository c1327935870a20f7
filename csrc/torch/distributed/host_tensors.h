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

  // The same for data that the collective only moves: as_movable of it.
  at::Tensor add_moved(const at::Tensor& tensor, TensorUse use);
  std::vector<at::Tensor> add_moved(const std::vector<at::Tensor>& tensors, TensorUse use);
  std::vector<std::vector<at::Tensor>> add_moved(const std::vector<std::vector<at::Tensor>>& lists, TensorUse use);

  // One flat pinned tensor with the contents of flat tensors of one dtype and device, for collectives that change it.
  at::Tensor add_concatenated(const std::vector<at::Tensor>& tensors);
  // Pinned memory for `numel` numbers of the kind of `like`, and `host`, a part of such memory, as the value of
  // `tensor` after the collective.
  static at::Tensor make_buffer(int64_t numel, const at::Tensor& like);
  void add_result(const at::Tensor& tensor, const at::Tensor& host);

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
  // Throws where a collective cannot take the tensor, and notes its device.
  void check(const at::Tensor& tensor);

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

// A view of a dense gxu tensor with a dtype of the same size that every host library moves; pairs of numbers for
// complex ones of 16 bytes.
at::Tensor as_movable(const at::Tensor& tensor);

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
