// Graphs: what torch.accelerator.Graph and torch.gxu.Graph call.
#include "graph.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>

#include "allocator.h"
#include "device_name.h"
#include "graph_capture.h"
#include "stream.h"

namespace gxu {
namespace {

class GraphImpl final : public GraphImplInterface {
 public:
  explicit GraphImpl(const GraphImplArgs& args = {}) : keep_graph_(args.keep_graph) {}
  GraphImpl(const GraphImpl&) = delete;

  ~GraphImpl() override {
    try {
      reset();
    } catch (const std::exception& error) {
      TORCH_WARN("A graph of ", device_name(), " could not be released: ", error.what());
    }
  }

  // One kind of capture: calls of other threads that do not use the capturing stream are never disturbed, so all modes
  // mean the same.
  void capture_begin(c10::MempoolId_t pool, GraphCaptureMode /*mode*/) override {
    ensure_initialized();
    TORCH_CHECK(!work_, "This graph holds a capture already: call reset() before capturing again.");
    const c10::Stream stream = current_stream(-1);
    TORCH_CHECK(stream.id() != 0, "A graph cannot be captured on the default stream: make another one current (torch.",
                device_name(), ".graph does).");
    TORCH_CHECK(!captures_on(stream), "The current stream is capturing a graph already.");
    pool_ = pool == c10::MempoolId_t{0, 0} ? CachingAllocator::new_pool_id(false) : pool;
    auto work = std::make_shared<GraphWork>(stream.device_index(), pool_);
    begin_capture(stream, work);
    work_ = std::move(work);
    stream_ = stream;
    // The pool serves all streams that take part, from any thread (backward runs on one of its own).
    CachingAllocator::instance().begin_allocate_to_pool(stream.device_index(), pool_,
                                                        [](c10::StreamId id) { return id != 0 && is_capturing(id); });
    is_capturing_ = true;
  }

  void capture_end() override {
    TORCH_CHECK(is_capturing_, "capture_end() of a graph that is not capturing.");
    TORCH_CHECK(current_stream(-1) == *stream_, "A capture must end on the stream that it began on.");
    is_capturing_ = false;
    CachingAllocator::instance().end_allocate_to_pool(work_->device(), pool_);
    try {
      graph_ = end_capture(*stream_, *work_);
    } catch (...) {
      reset();
      throw;
    }
    if (!keep_graph_) {
      instantiate();
      runtime().gxuGraphDestroy(graph_);
      graph_ = nullptr;
    }
  }

  void instantiate() override {
    TORCH_CHECK(graph_ != nullptr, "There is no captured graph to instantiate: capture one with keep_graph=True.");
    destroy_executable();
    GXU_CALL(gxuGraphInstantiate, &executable_, graph_);
  }

  void replay() override {
    if (executable_ == nullptr && graph_ != nullptr) {
      instantiate();
    }
    TORCH_CHECK(executable_ != nullptr, "There is no captured graph to replay.");
    const c10::Stream stream = current_stream(work_->device());
    const DeviceScope scope(work_->device());
    work_->advance_generators(stream);
    GXU_CALL(gxuGraphLaunch, executable_, native_stream(stream.id()));
    if (std::find(used_.begin(), used_.end(), stream) == used_.end()) {
      used_.push_back(stream);
    }
  }

  void reset() override {
    if (!work_ || is_in_bad_fork()) {
      return;
    }
    if (is_capturing_) {  // the capture is given up
      is_capturing_ = false;
      CachingAllocator::instance().end_allocate_to_pool(work_->device(), pool_);
      gxuGraph_t graph = nullptr;
      try {
        graph = end_capture(*stream_, *work_);
      } catch (const c10::Error&) {  // it failed: nothing to give up
      }
      if (graph != nullptr) {
        runtime().gxuGraphDestroy(graph);
      }
    }
    wait_for_replays();
    destroy_executable();
    if (graph_ != nullptr) {
      runtime().gxuGraphDestroy(graph_);
      graph_ = nullptr;
    }
    const c10::DeviceIndex device = work_->device();
    work_.reset();
    CachingAllocator::instance().release_pool(device, pool_);
  }

  c10::MempoolId_t pool() const override {
    TORCH_CHECK(work_, "A graph has a memory pool from capture_begin() on.");
    return pool_;
  }

  void enable_debug_mode() override { is_debugged_ = true; }

  // Writes the captured operators, in order, as a graph in Graphviz's language.
  void debug_dump(const std::string& path) override {
    TORCH_CHECK(is_debugged_, "Call enable_debug_mode() before debug_dump().");
    TORCH_CHECK(work_ && !is_capturing_, "There is no captured graph to dump.");
    std::ofstream file(path);
    file << "digraph gxu_graph {\n";
    const std::vector<std::string> names = work_->names();
    for (size_t i = 0; i < names.size(); ++i) {
      file << "  n" << i << " [label=\"" << names[i] << "\"];\n";
      if (i > 0) {
        file << "  n" << i - 1 << " -> n" << i << ";\n";
      }
    }
    file << "}\n";
    TORCH_CHECK(file.good(), "The graph could not be written to ", path, ".");
  }

 private:
  static bool is_capturing(c10::StreamId stream) {
    gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
    return runtime().gxuStreamIsCapturing(native_stream(stream), &status) == gxuSuccess &&
           status != gxuStreamCaptureStatusNone;
  }
  static bool captures_on(c10::Stream stream) { return is_capturing(stream.id()); }

  void destroy_executable() {
    if (executable_ != nullptr) {
      runtime().gxuGraphExecDestroy(executable_);
      executable_ = nullptr;
    }
  }

  // Replays read the functions of `work_`.
  void wait_for_replays() {
    for (const c10::Stream& stream : used_) {
      TORCH_CHECK(!is_capturing(stream.id()),
                  "A graph cannot be released while a stream that replayed it captures another one.");
    }
    for (const c10::Stream& stream : used_) {
      // A stream that its owner destroyed has finished. What failed is for the next call that asks for results.
      if (runtime().gxuStreamSynchronize(native_stream(stream.id())) == gxuErrorLaunchFailed) {
        record_asynchronous_error(stream.device_index(), runtime().gxuGetLastErrorMessage());
      }
    }
    used_.clear();
  }

  const bool keep_graph_;
  bool is_debugged_ = false;
  bool is_capturing_ = false;
  c10::MempoolId_t pool_{0, 0};
  std::optional<c10::Stream> stream_;
  std::shared_ptr<GraphWork> work_;
  gxuGraph_t graph_ = nullptr;
  gxuGraphExec_t executable_ = nullptr;
  std::vector<c10::Stream> used_;  // streams that replayed
};

}  // namespace

std::unique_ptr<GraphImplInterface> make_graph(bool keep_graph) {
  return std::make_unique<GraphImpl>(GraphImplArgs{keep_graph});
}

bool is_stream_capturing(c10::Stream stream) {
  if (!is_initialized()) {
    return false;
  }
  const DeviceScope scope(stream.device_index());
  gxuStreamCaptureStatus status = gxuStreamCaptureStatusNone;
  GXU_CALL(gxuStreamIsCapturing, native_stream(stream.id()), &status);
  return status != gxuStreamCaptureStatusNone;
}

void register_graphs() {
#if GXU_TORCH_HAS_GRAPHS
  // The registry goes by the backend's name in capitals.
  at::GraphImplRegistry()->Register(c10::DeviceTypeName(kGxu, /*lower_case=*/false),
                                    at::RegistererGraphImplRegistry::DefaultCreator<GraphImpl>);
#endif
}

}  // namespace gxu
