// What PyTorch's operators do while a graph is captured: instead of running, they leave work behind that replays run.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Stream.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "device.h"
#include "generator.h"

namespace gxu {

// Work of one graph that is not the runtime's own (kernels, copies): functions that the host calls at replay, and the
// generators that they draw from. Made by a capture, kept by the graph.
class GraphWork {
 public:
  GraphWork(c10::DeviceIndex device, c10::MempoolId_t pool) : device_(device), pool_(pool) {}
  GraphWork(const GraphWork&) = delete;

  c10::DeviceIndex device() const { return device_; }
  // The private pool of the graph's memory, which lives as long as the graph.
  c10::MempoolId_t pool() const { return pool_; }

  // Appends `function` to what is captured on the current stream. `name` is what errors of a replay call it.
  void enqueue(std::string name, std::function<void()> function);

  // Where in the sequence of `generator` a piece of work that draws `words` words finds its numbers.
  struct RandomPosition {
    const PhiloxKey* base;  // set before each replay
    uint64_t block;

    PhiloxKey key() const { return {base->seed, base->block + block}; }
  };
  RandomPosition reserve_words(GeneratorImpl& generator, uint64_t words);

  // Enqueues on `stream`, before a replay, what gives the replay its own part of the generators' sequences.
  void advance_generators(c10::Stream stream);

  // Keeps a tensor that the captured work uses, but that is not the graph's own.
  void keep(const at::Tensor& tensor);

  // Notes that something cannot be captured; the first message counts.
  void fail(const std::string& message);
  // The message of the first failure, empty where there was none.
  std::string failure() const;
  std::vector<std::string> names() const;

 private:
  struct Step {
    std::string name;
    std::function<void()> function;
    c10::DeviceIndex device;
  };
  // The numbers of one generator that one replay draws.
  struct Draws {
    c10::intrusive_ptr<c10::GeneratorImpl> generator;  // shares the state that was current at the capture
    PhiloxKey base{0, 0};
    uint64_t words = 0;
  };

  static void run_step(void* step);

  const c10::DeviceIndex device_;
  mutable std::mutex mutex_;
  std::string failure_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<std::unique_ptr<Draws>> draws_;
  std::vector<at::Tensor> kept_;
  const c10::MempoolId_t pool_;
};

namespace detail {
extern std::atomic<int> num_captures;
GraphWork* find_capture(c10::DeviceIndex device);
}  // namespace detail

// The graph that the calling thread's current stream on `device` captures into; nullptr where it does not capture.
inline GraphWork* current_capture(c10::DeviceIndex device) {
  return C10_LIKELY(detail::num_captures.load(std::memory_order_relaxed) == 0) ? nullptr : detail::find_capture(device);
}

// Throws, and makes the capture fail, where the current stream of `device` captures: `what` needs the device's results
// at once.
void forbid_in_capture(c10::DeviceIndex device, const char* what);

// Begins a capture into `work` on `stream`; ends it, giving the runtime's graph.
void begin_capture(c10::Stream stream, std::shared_ptr<GraphWork> work);
gxuGraph_t end_capture(c10::Stream stream, GraphWork& work);

// Captures one call of an operator that runs on the delegate: works out its results' shapes with PyTorch's meta
// kernels, allocates them, and enqueues the call. Throws where that cannot be done.
// `format`: that of the results, whatever strides the meta kernel gives them. Results of one spatial dimension have it
// as if they had two; those with another number of dimensions than it is for are contiguous.
void capture_operator(GraphWork& work, const c10::OperatorHandle& op, torch::jit::Stack* stack,
                      std::optional<at::MemoryFormat> format = std::nullopt);

// Captures a call of the operator `name`, with arguments in the types of its schema, and returns its `count` tensors,
// in the memory format `format`.
template <size_t count, typename... Arguments>
auto capture_results(GraphWork& work, at::MemoryFormat format, const char* name, const Arguments&... arguments) {
  torch::jit::Stack stack;
  torch::jit::push(stack, arguments...);
  capture_operator(work, c10::Dispatcher::singleton().findSchemaOrThrow(name, ""), &stack, format);
  std::array<at::Tensor, count> results;
  for (size_t i = 0; i < count; ++i) {
    results[i] = std::move(stack[i]).toTensor();
  }
  return std::tuple_cat(results);
}

// Captures destination.copy_(source).
void capture_copy(GraphWork& work, const at::Tensor& destination, const at::Tensor& source);

// Errors of work that ran after the call that asked for it. They are thrown by the next call that waits for the device.
void record_asynchronous_error(c10::DeviceIndex device, const std::string& message);
void throw_asynchronous_error(c10::DeviceIndex device);

}  // namespace gxu
