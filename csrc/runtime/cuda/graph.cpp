// Graphs: what a capture makes, and their replay.
#include "../common/api.h"
#include "../common/handle_table.h"
#include "../common/host_function.h"
#include "capture.h"
#include "device.h"
#include "stream.h"

namespace gxu::cuda {
namespace {

struct Graph {
  CUgraph handle;
};

struct GraphExec {
  CUgraphExec handle;
};

using GraphTable = HandleTable<gxuGraph_t, Graph, HandleKind::kGraph>;
using GraphExecTable = HandleTable<gxuGraphExec_t, GraphExec, HandleKind::kGraphExec>;

GraphTable& graph_handles() {
  static auto* table = new GraphTable;
  return *table;
}

GraphExecTable& exec_handles() {
  static auto* table = new GraphExecTable;
  return *table;
}

template <typename Object, typename Handle>
Object& require_live(Object* object, Handle handle, const char* what) {
  if (object == nullptr) {
    fail(gxuErrorInvalidHandle, "%p is not a live %s: it was destroyed or made up", static_cast<void*>(handle), what);
  }
  return *object;
}

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuStreamEndCapture(gxuStream_t stream, gxuGraph_t* graph) {
  return api([&] {
    require_argument(graph, "graph");
    *graph = nullptr;
    Stream& found = resolve_stream(stream);
    const std::shared_ptr<Capture> capture = found.capture();
    if (!capture) fail(gxuErrorInvalidValue, "gxuStreamEndCapture: the stream is not capturing");
    if (&capture->origin() != &found) {
      fail(gxuErrorStreamCaptureUnmatched,
           "gxuStreamEndCapture: the stream joined a capture that was begun on another stream: end it there");
    }
    auto owned = std::make_unique<Graph>(Graph{capture->end()});
    *graph = graph_handles().insert(owned.get());
    owned.release();
  });
}

gxuError_t gxuGraphInstantiate(gxuGraphExec_t* exec, gxuGraph_t graph) {
  return api([&] {
    require_argument(exec, "exec");
    const Graph& found = require_live(graph_handles().find(graph), graph, "graph");
    const ContextScope scope(current_device());
    auto owned = std::make_unique<GraphExec>();
    GXU_DRIVER(cuGraphInstantiateWithFlags, &owned->handle, found.handle, 0);
    *exec = exec_handles().insert(owned.get());
    owned.release();
  });
}

gxuError_t gxuGraphLaunch(gxuGraphExec_t exec, gxuStream_t stream) {
  return api([&] {
    forbid_in_host_function("gxuGraphLaunch");
    const GraphExec& found = require_live(exec_handles().find(exec), exec, "executable graph");
    Stream& target = resolve_stream(stream);
    target.require_valid_capture();
    const ContextScope scope(target.device());
    GXU_DRIVER(cuGraphLaunch, found.handle, target.handle());
  });
}

gxuError_t gxuGraphExecDestroy(gxuGraphExec_t exec) {
  return api([&] {
    const std::unique_ptr<GraphExec> owned(exec_handles().remove(exec));
    require_live(owned.get(), exec, "executable graph");
    check_unless_sticky(driver.cuGraphExecDestroy(owned->handle), "cuGraphExecDestroy");
  });
}

gxuError_t gxuGraphDestroy(gxuGraph_t graph) {
  return api([&] {
    const std::unique_ptr<Graph> owned(graph_handles().remove(graph));
    require_live(owned.get(), graph, "graph");
    check_unless_sticky(driver.cuGraphDestroy(owned->handle), "cuGraphDestroy");
  });
}
