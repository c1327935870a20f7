#include "error.h"

#include <cstdarg>
#include <cstdio>
#include <new>

namespace gxu::engine {
namespace {

std::string format_arguments(const char* format, va_list arguments) {
  va_list counted;
  va_copy(counted, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, counted);
  va_end(counted);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

// The message is a pointer, so that a call made while the thread's own destructors run still finds valid storage.
thread_local gxuError_t last_error = gxuSuccess;
thread_local std::string* last_message = nullptr;

struct MessageReaper {
  ~MessageReaper() {
    delete last_message;
    last_message = nullptr;
  }
};

struct ErrorText {
  gxuError_t code;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrorTexts[] = {
    {gxuSuccess, "gxuSuccess", "no error"},
    {gxuErrorInvalidValue, "gxuErrorInvalidValue", "invalid argument"},
    {gxuErrorOutOfMemory, "gxuErrorOutOfMemory", "out of memory"},
    {gxuErrorNotInitialized, "gxuErrorNotInitialized", "gxuInit has not been called"},
    {gxuErrorDeinitialized, "gxuErrorDeinitialized", "the process is exiting"},
    {gxuErrorNoDevice, "gxuErrorNoDevice", "no device"},
    {gxuErrorInvalidDevice, "gxuErrorInvalidDevice", "invalid device ordinal"},
    {gxuErrorInvalidImage, "gxuErrorInvalidImage", "invalid kernel image"},
    {gxuErrorFileNotFound, "gxuErrorFileNotFound", "file not found or not readable"},
    {gxuErrorSharedObjectInitFailed, "gxuErrorSharedObjectInitFailed", "shared object initialisation failed"},
    {gxuErrorInvalidHandle, "gxuErrorInvalidHandle", "invalid or destroyed handle"},
    {gxuErrorNotFound, "gxuErrorNotFound", "named symbol not found"},
    {gxuErrorNotReady, "gxuErrorNotReady", "work has not finished yet"},
    {gxuErrorLaunchFailed, "gxuErrorLaunchFailed", "a kernel failed"},
    {gxuErrorForked, "gxuErrorForked", "used in a child that was forked after gxuInit"},
    {gxuErrorNotPermitted, "gxuErrorNotPermitted", "operation not permitted here"},
    {gxuErrorNotSupported, "gxuErrorNotSupported", "operation not supported"},
    {gxuErrorStreamCaptureUnsupported, "gxuErrorStreamCaptureUnsupported",
     "operation not permitted while the stream is capturing"},
    {gxuErrorStreamCaptureInvalidated, "gxuErrorStreamCaptureInvalidated",
     "the capture was invalidated by an earlier error"},
    {gxuErrorStreamCaptureUnmatched, "gxuErrorStreamCaptureUnmatched", "the capture was not begun on this stream"},
    {gxuErrorUnknown, "gxuErrorUnknown", "unknown error"},
};

const ErrorText* find_text(gxuError_t code) {
  for (const ErrorText& entry : kErrorTexts) {
    if (entry.code == code) return &entry;
  }
  return nullptr;
}

}  // namespace

void fail(gxuError_t code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string message = format_arguments(format, arguments);
  va_end(arguments);
  throw Error(code, std::move(message));
}

std::string format_text(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string text = format_arguments(format, arguments);
  va_end(arguments);
  return text;
}

gxuError_t set_last_error(gxuError_t code, const char* message) noexcept {
  thread_local MessageReaper reaper;
  (void)reaper;
  last_error = code;
  try {
    if (last_message == nullptr) last_message = new std::string;
    last_message->assign(message);
  } catch (const std::bad_alloc&) {
    delete last_message;  // no memory for the detail: gxuGetLastErrorMessage falls back to the code's own text
    last_message = nullptr;
  }
  return code;
}

}  // namespace gxu::engine

using namespace gxu::engine;

const char* gxuGetErrorName(gxuError_t error) {
  const ErrorText* entry = find_text(error);
  return entry != nullptr ? entry->name : "unrecognized error code";
}

const char* gxuGetErrorString(gxuError_t error) {
  const ErrorText* entry = find_text(error);
  return entry != nullptr ? entry->text : "unrecognized error code";
}

gxuError_t gxuGetLastError(void) {
  const gxuError_t error = last_error;
  last_error = gxuSuccess;
  return error;
}

gxuError_t gxuPeekAtLastError(void) { return last_error; }

const char* gxuGetLastErrorMessage(void) {
  return last_message != nullptr ? last_message->c_str() : gxuGetErrorString(last_error);
}
