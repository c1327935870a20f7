// Graphs: what a capture makes, and their replay.
#include "../common/api.h"
#include "../common/capture_errors.h"
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

}  // namespace
}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuStreamEndCapture(gxuStream_t stream, gxuGraph_t* graph) {
  return api([&] {
    require_argument(graph, "graph");
    *graph = nullptr;
    Stream& found = resolve_stream(stream);
    const std::shared_ptr<Capture> capture = found.capture();
    if (!capture) fail_not_capturing();
    if (&capture->origin() != &found) fail_joined_capture();
    auto owned = std::make_unique<Graph>(Graph{capture->end()});
    *graph = graph_handles().insert(owned.get());
    owned.release();
  });
}

gxuError_t gxuGraphInstantiate(gxuGraphExec_t* exec, gxuGraph_t graph) {
  return api([&] {
    require_argument(exec, "exec");
    const Graph& found = graph_handles().get(graph);
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
    const GraphExec& found = exec_handles().get(exec);
    Stream& target = resolve_stream(stream);
    target.require_valid_capture();
    const ContextScope scope(target.device());
    GXU_DRIVER(cuGraphLaunch, found.handle, target.handle());
  });
}

gxuError_t gxuGraphExecDestroy(gxuGraphExec_t exec) {
  return api([&] {
    const std::unique_ptr<GraphExec> owned(exec_handles().take(exec));
    check_unless_sticky(driver.cuGraphExecDestroy(owned->handle), "cuGraphExecDestroy");
  });
}

gxuError_t gxuGraphDestroy(gxuGraph_t graph) {
  return api([&] {
    const std::unique_ptr<Graph> owned(graph_handles().take(graph));
    check_unless_sticky(driver.cuGraphDestroy(owned->handle), "cuGraphDestroy");
  });
}
