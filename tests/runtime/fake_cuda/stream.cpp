// Streams, each executed by a thread; events; copies; host functions.
#include <chrono>
#include <cstring>

#include "fake.h"

namespace gxu::cuda {
namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void execute(CUstream_st* stream) {
  std::unique_lock lock(stream->mutex);
  for (;;) {
    stream->changed.wait(lock, [&] { return !stream->queue.empty() || stream->closed; });
    if (stream->queue.empty()) break;
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    lock.unlock();
    for (const TokenPtr& token : work.waits) token->wait();
    if (work.run) work.run();
    work.done->finish();
    lock.lock();
  }
}

TokenPtr last_work(CUstream_st& stream) {
  std::lock_guard lock(stream.mutex);
  return stream.last;
}

// What work of the stream comes after because the default stream is ordered with it.
std::vector<TokenPtr> implied_waits(CUstream_st& stream) {
  CUctx_st* context = stream.context;
  std::vector<TokenPtr> waits;
  if (!stream.blocking) return waits;
  if (&stream != context->default_stream) {
    if (TokenPtr last = last_work(*context->default_stream)) waits.push_back(std::move(last));
    return waits;
  }
  std::lock_guard lock(context->mutex);
  for (CUstream_st* other : context->streams) {
    if (!other->blocking) continue;
    if (TokenPtr last = last_work(*other)) waits.push_back(std::move(last));
  }
  return waits;
}

// The default stream cannot be used while a stream that is ordered with it captures.
CUresult check_default_stream(CUstream_st& stream) {
  CUctx_st* context = stream.context;
  if (&stream != context->default_stream) return CUDA_SUCCESS;
  std::lock_guard lock(context->mutex);
  for (CUstream_st* other : context->streams) {
    if (const std::shared_ptr<Capture> capture = other->blocking ? other->capture() : nullptr) {
      invalidate(*capture);
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return CUDA_SUCCESS;
}

}  // namespace

void Token::finish() {
  std::lock_guard lock(mutex_);
  time = now();
  done_ = true;
  changed_.notify_all();
}

void Token::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_; });
}

bool Token::is_done() {
  std::lock_guard lock(mutex_);
  return done_;
}

CUstream_st* make_stream(CUctx_st* context, bool blocking) {
  auto* stream = new CUstream_st{.context = context, .blocking = blocking};
  std::thread([stream] { execute(stream); }).detach();
  return stream;
}

CUstream_st* resolve(CUstream stream) { return stream != nullptr ? stream : current_context->default_stream; }

void push(CUstream_st& stream, std::vector<TokenPtr> waits, std::function<void()> run, TokenPtr done) {
  for (TokenPtr& token : implied_waits(stream)) waits.push_back(std::move(token));
  std::lock_guard lock(stream.mutex);
  stream.last = done;
  stream.queue.push_back({std::move(waits), std::move(run), std::move(done)});
  stream.changed.notify_all();
}

CUresult enqueue(CUstream_st& stream, std::function<void(CUctx_st*)> run) {
  if (const std::shared_ptr<Capture> capture = stream.capture()) {
    std::lock_guard lock(capture->mutex);
    if (capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    std::vector<Node>& nodes = capture->graph->body->nodes;
    nodes.push_back({stream.frontier, std::move(run)});
    stream.frontier = {static_cast<int>(nodes.size()) - 1};
    return CUDA_SUCCESS;
  }
  if (const CUresult result = check_default_stream(stream); result != CUDA_SUCCESS) return result;
  CUctx_st* context = stream.context;
  push(
      stream, {},
      [context, run = std::move(run)] {
        if (context->sticky == CUDA_SUCCESS) run(context);
      },
      std::make_shared<Token>());
  return CUDA_SUCCESS;
}

CUresult synchronize(CUstream_st& stream) {
  if (const std::shared_ptr<Capture> capture = stream.capture()) {
    invalidate(*capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (const CUresult result = check_default_stream(stream); result != CUDA_SUCCESS) return result;
  std::vector<TokenPtr> waits =
      &stream == stream.context->default_stream ? implied_waits(stream) : std::vector<TokenPtr>{};
  if (TokenPtr last = last_work(stream)) waits.push_back(std::move(last));
  for (const TokenPtr& token : waits) token->wait();
  return stream.context->sticky;
}

}  // namespace gxu::cuda

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  FAKE_ENTER(enter_context)
  *least = 0;
  *greatest = -5;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  FAKE_ENTER(enter_context)
  CUctx_st* context = current_context;
  std::vector<TokenPtr> waits;
  {
    std::lock_guard lock(context->mutex);
    for (CUstream_st* stream : context->streams) {
      if (const std::shared_ptr<Capture> capture = stream->capture()) {
        invalidate(*capture);
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
      }
      if (TokenPtr last = last_work(*stream)) waits.push_back(std::move(last));
    }
  }
  if (TokenPtr last = last_work(*context->default_stream)) waits.push_back(std::move(last));
  for (const TokenPtr& token : waits) token->wait();
  return context->sticky;
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  FAKE_ENTER(enter_context)
  if (flags > CU_STREAM_NON_BLOCKING || priority > 0 || priority < -5) return CUDA_ERROR_INVALID_VALUE;
  *stream = make_stream(current_context, flags != CU_STREAM_NON_BLOCKING);
  std::lock_guard lock(current_context->mutex);
  current_context->streams.insert(*stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  FAKE_ENTER(enter_context) {
    std::lock_guard lock(stream->context->mutex);
    if (stream->context->streams.erase(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
  }
  std::lock_guard lock(stream->mutex);
  stream->closed = true;  // its thread does what is left; its memory stays, so that a late use is found
  stream->changed.notify_all();
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  FAKE_ENTER(enter_context)
  return synchronize(*resolve(stream));
}

CUresult cuStreamQuery(CUstream stream) {
  FAKE_ENTER(enter_context)
  CUstream_st& found = *resolve(stream);
  if (const std::shared_ptr<Capture> capture = found.capture()) {
    invalidate(*capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  const TokenPtr last = last_work(found);
  return last == nullptr || last->is_done() ? found.context->sticky.load() : CUDA_ERROR_NOT_READY;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* user_data) {
  FAKE_ENTER(enter_context)
  return enqueue(*resolve(stream), [function, user_data](CUctx_st*) {
    in_host_function = true;
    function(user_data);
    in_host_function = false;
  });
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t size, CUstream stream) {
  FAKE_ENTER(enter_context)
  return enqueue(*resolve(stream), [=](CUctx_st*) {
    std::memmove(reinterpret_cast<void*>(dst), reinterpret_cast<const void*>(src), size);
  });
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t count, CUstream stream) {
  FAKE_ENTER(enter_context)
  return enqueue(*resolve(stream), [=](CUctx_st*) { std::memset(reinterpret_cast<void*>(dst), value, count); });
}

CUresult cuEventCreate(CUevent* event, unsigned int flags) {
  FAKE_ENTER(enter_context)
  if ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0) return CUDA_ERROR_INVALID_VALUE;
  *event = new CUevent_st{.context = current_context, .flags = flags};
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  FAKE_ENTER(enter_context)
  delete event;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  FAKE_ENTER(enter_context)
  CUstream_st& target = *resolve(stream);
  if (event->context != target.context) return CUDA_ERROR_INVALID_HANDLE;
  std::lock_guard lock(event->mutex);
  event->capture = target.capture();
  if (event->capture) {
    std::lock_guard capture_lock(event->capture->mutex);
    if (event->capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    event->frontier = target.frontier;
    return CUDA_SUCCESS;
  }
  event->token = std::make_shared<Token>();
  const int delay = event_delay();
  push(target, {}, [delay] { std::this_thread::sleep_for(std::chrono::microseconds(delay)); }, event->token);
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
  FAKE_ENTER(enter_context)
  std::lock_guard lock(event->mutex);
  if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
  return event->token == nullptr || event->token->is_done() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event) {
  FAKE_ENTER(enter_context)
  TokenPtr token;
  {
    std::lock_guard lock(event->mutex);
    if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
    token = event->token;
  }
  if (token) token->wait();
  return event->context->sticky;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  FAKE_ENTER(enter_context)
  if (((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0 || !start->token || !end->token) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!start->token->is_done() || !end->token->is_done()) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(static_cast<double>(end->token->time - start->token->time) * 1e-6);
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int) {
  FAKE_ENTER(enter_context)
  CUstream_st& target = *resolve(stream);
  std::lock_guard lock(event->mutex);
  const std::shared_ptr<Capture> own = target.capture();
  if (!event->capture && !own) {
    if (event->token) push(target, {event->token}, nullptr, std::make_shared<Token>());
    return CUDA_SUCCESS;
  }
  if (!event->capture) {
    invalidate(*own);
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (own && own != event->capture) {
    invalidate(*own);
    invalidate(*event->capture);
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  std::lock_guard capture_lock(event->capture->mutex);
  if (event->capture->status == CU_STREAM_CAPTURE_STATUS_NONE) return CUDA_ERROR_INVALID_VALUE;
  target.set_capture(event->capture);
  event->capture->streams.insert(&target);
  target.frontier.insert(event->frontier.begin(), event->frontier.end());
  return CUDA_SUCCESS;
}
