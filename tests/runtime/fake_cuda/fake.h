// What the files of the stand-in share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../../csrc/runtime/cuda/driver_functions.h"
#include "control.h"

namespace gxu::cuda {

// A point in a stream.
class Token {
 public:
  void finish();
  void wait();
  bool is_done();
  int64_t time = 0;  // nanoseconds, valid when done

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
};
using TokenPtr = std::shared_ptr<Token>;

struct Capture;

struct CUctx_st {
  int device = 0;
  std::atomic<CUresult> sticky{CUDA_SUCCESS};
  std::mutex mutex;
  std::set<CUstream_st*> streams;  // without the default one
  CUstream_st* default_stream = nullptr;
  std::set<CUctx_st*> peers;
};

struct Work {
  std::vector<TokenPtr> waits;
  std::function<void()> run;
  TokenPtr done;
};

struct CUstream_st {
  CUctx_st* context;
  bool blocking;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  TokenPtr last;
  bool closed = false;
  std::set<int> frontier;  // nodes of the capture that later work of this stream comes after

  std::shared_ptr<Capture> capture() {
    std::lock_guard lock(capture_mutex);
    return capture_;
  }
  void set_capture(std::shared_ptr<Capture> capture) {
    std::lock_guard lock(capture_mutex);
    capture_ = std::move(capture);
  }
  std::mutex capture_mutex;
  std::shared_ptr<Capture> capture_;
};

struct CUevent_st {
  CUctx_st* context;
  unsigned int flags;
  std::mutex mutex;
  TokenPtr token;  // of the latest recording
  std::shared_ptr<Capture> capture;
  std::set<int> frontier;
};

struct Node {
  std::set<int> after;
  std::function<void(CUctx_st*)> run;
};

struct GraphBody {
  std::vector<Node> nodes;
  std::vector<std::shared_ptr<void>> objects;
};

struct CUgraph_st {
  std::shared_ptr<GraphBody> body = std::make_shared<GraphBody>();
};

struct CUgraphExec_st {
  std::shared_ptr<const GraphBody> body;
};

struct Capture {
  CUstream_st* origin;
  uint64_t id;
  std::mutex mutex;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  std::set<CUstream_st*> streams;
  CUgraph_st* graph;
};

struct Kernel {
  std::string name;
  std::vector<uint32_t> param_sizes;
  void (*run)(const FakeCudaLaunch*, void**) = nullptr;  // nullptr: a cubin's
  int static_shared = 0;
};

struct CUmod_st {
  CUctx_st* context;
  void* library = nullptr;
  std::map<std::string, Kernel> cubin_kernels;
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};

struct CUfunc_st {
  CUmod_st* module;
  Kernel kernel;
  std::map<int, int> attributes;
};

// First in every function: counts the call and gives the failure that was asked for.
CUresult enter(const char* function);
// The same for functions that need a context: also without one, in a host function, or after a failed kernel.
CUresult enter_context(const char* function);

extern thread_local CUctx_st* current_context;
extern thread_local bool in_host_function;

int event_delay();
CUctx_st* primary_context(int device);
int device_total();

CUstream_st* make_stream(CUctx_st* context, bool blocking);
CUstream_st* resolve(CUstream stream);
// Puts work into the stream, or into the capture that it takes part in.
CUresult enqueue(CUstream_st& stream, std::function<void(CUctx_st*)> run);
// As enqueue, outside captures, with more to wait for and a token of one's own.
void push(CUstream_st& stream, std::vector<TokenPtr> waits, std::function<void()> run, TokenPtr done);
CUresult synchronize(CUstream_st& stream);
void invalidate(Capture& capture);
void write_launch(const FakeCudaLaunch& launch);

}  // namespace gxu::cuda

using namespace gxu::cuda;

extern "C" {
#define FAKE_DECLARE(name, parameters) __attribute__((visibility("default"))) CUresult name parameters;
GXU_CUDA_DRIVER_FUNCTIONS(FAKE_DECLARE)
GXU_CUDA_OPTIONAL_DRIVER_FUNCTIONS(FAKE_DECLARE)
#undef FAKE_DECLARE
}

#define FAKE_ENTER(enter_function)                                                    \
  if (const CUresult failure_ = enter_function(__func__); failure_ != CUDA_SUCCESS) { \
    return failure_;                                                                  \
  }
