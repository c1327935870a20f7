// Capture, graphs and the objects that they own.
#include "fake.h"

namespace gxu::cuda {

struct CUuserObject_st {
  std::shared_ptr<void> resource;
  unsigned int references;
};

namespace {

std::atomic<uint64_t> last_capture{0};

void add_ancestors(const std::vector<Node>& nodes, int node, std::set<int>& found) {
  if (!found.insert(node).second) return;
  for (const int before : nodes[static_cast<size_t>(node)].after) add_ancestors(nodes, before, found);
}

// Whether all work of the capture comes before the end of its first stream.
bool is_joined(const Capture& capture) {
  const std::vector<Node>& nodes = capture.graph->body->nodes;
  std::set<int> before;
  for (const int node : capture.origin->frontier) add_ancestors(nodes, node, before);
  for (const CUstream_st* stream : capture.streams) {
    for (const int node : stream->frontier) {
      if (before.count(node) == 0) return false;
    }
  }
  return true;
}

void release(CUuserObject_st* object, unsigned int count) {
  object->references -= count;
  if (object->references == 0) delete object;
}

}  // namespace

void invalidate(Capture& capture) {
  std::lock_guard lock(capture.mutex);
  if (capture.status == CU_STREAM_CAPTURE_STATUS_ACTIVE) capture.status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

}  // namespace gxu::cuda

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode) {
  FAKE_ENTER(enter_context)
  if (stream == nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture()) return CUDA_ERROR_ILLEGAL_STATE;
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->id = ++last_capture;
  capture->graph = new CUgraph_st;
  capture->streams.insert(stream);
  stream->frontier.clear();
  stream->set_capture(std::move(capture));
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  FAKE_ENTER(enter_context)
  const std::shared_ptr<Capture> capture = stream->capture();
  if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  std::lock_guard lock(capture->mutex);
  CUresult result = CUDA_SUCCESS;
  if (capture->status == CU_STREAM_CAPTURE_STATUS_INVALIDATED) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else if (!is_joined(*capture)) {
    result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  capture->status = CU_STREAM_CAPTURE_STATUS_NONE;
  for (CUstream_st* joined : capture->streams) {
    joined->frontier.clear();
    joined->set_capture(nullptr);
  }
  *graph = result == CUDA_SUCCESS ? capture->graph : nullptr;
  if (result != CUDA_SUCCESS) delete capture->graph;
  return result;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  FAKE_ENTER(enter)
  const std::shared_ptr<Capture> capture = stream->capture();
  if (!capture) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  }
  std::lock_guard lock(capture->mutex);
  *status = capture->status;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph,
                                   const CUgraphNode**, size_t*) {
  FAKE_ENTER(enter)
  const std::shared_ptr<Capture> capture = stream->capture();
  if (!capture) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  }
  std::lock_guard lock(capture->mutex);
  *status = capture->status;
  if (id != nullptr) *id = capture->id;
  if (graph != nullptr) *graph = capture->graph;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  FAKE_ENTER(enter_context)
  *exec = new CUgraphExec_st{std::make_shared<GraphBody>(*graph->body)};
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  FAKE_ENTER(enter_context)
  return enqueue(*resolve(stream), [body = exec->body](CUctx_st* context) {
    for (const Node& node : body->nodes) node.run(context);
  });
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  FAKE_ENTER(enter)
  delete exec;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  FAKE_ENTER(enter)
  delete graph;
  return CUDA_SUCCESS;
}

CUresult cuUserObjectCreate(CUuserObject* object, void* pointer, CUhostFn destroy, unsigned int initial_references,
                            unsigned int) {
  FAKE_ENTER(enter)
  // As in the driver, what destroys the object must not call the driver.
  *object = new CUuserObject_st{std::shared_ptr<void>(pointer,
                                                      [destroy](void* resource) {
                                                        const bool outside = std::exchange(in_host_function, true);
                                                        destroy(resource);
                                                        in_host_function = outside;
                                                      }),
                                initial_references};
  return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned int count) {
  FAKE_ENTER(enter)
  release(object, count);
  return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags) {
  FAKE_ENTER(enter)
  graph->body->objects.push_back(object->resource);
  if (flags == CU_GRAPH_USER_OBJECT_MOVE) release(object, count);
  return CUDA_SUCCESS;
}
