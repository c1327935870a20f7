// What replays of a graph write again each time: the copies of its inputs, and its results.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace gxu {

// Holds the memory of a graph's results, and gives it to tensors that live as long as anybody wants them.
//
// A replay writes the memory again. Before it, `move_out_living` gives results of earlier replays that are still in use
// memory of their own, with what they hold: nobody sees a result change.
class GraphOutputs {
 public:
  // `tensors`: what the capture made, of which nobody else keeps any.
  explicit GraphOutputs(std::vector<at::Tensor> tensors);

  // Tensors like those of the capture, and on the same memory.
  std::vector<at::Tensor> tensors() const;

  // Copies what is in use to new memory, on the current stream. Returns the number of storages that it moved.
  size_t move_out_living();

 private:
  struct Group {
    std::vector<size_t> members;  // those of `tensors_` that share one storage
  };
  void move_out(const Group& group);

  std::vector<at::Tensor> tensors_;
  std::vector<Group> groups_;
};

// Copies each of `from` to the one of `to` in its place, on the current stream, without waiting for it where a copy of
// bytes will do.
void enqueue_copies(const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from);

}  // namespace gxu
