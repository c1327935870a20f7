#include "capture_errors.h"

namespace gxu::engine {

void fail_default_stream_captures() {
  fail(gxuErrorStreamCaptureUnsupported, "the default stream cannot capture: use one from gxuStreamCreate");
}

void fail_captures_already() { fail(gxuErrorInvalidValue, "gxuStreamBeginCapture: the stream is capturing already"); }

void fail_not_capturing() { fail(gxuErrorInvalidValue, "gxuStreamEndCapture: the stream is not capturing"); }

void fail_joined_capture() {
  fail(gxuErrorStreamCaptureUnmatched,
       "gxuStreamEndCapture: the stream joined a capture that was begun on another stream: end it there");
}

void fail_invalid_capture() {
  fail(gxuErrorStreamCaptureInvalidated,
       "the capture was invalidated by an earlier error: end it with gxuStreamEndCapture");
}

void fail_ended_invalid() {
  fail(gxuErrorStreamCaptureInvalidated, "the capture was invalidated by an earlier error; no graph was made");
}

void fail_during_capture(const char* function) {
  fail(gxuErrorStreamCaptureUnsupported, "%s was called while a stream is capturing; the capture is now invalid",
       function);
}

void fail_captured_event(const char* function) {
  fail(gxuErrorStreamCaptureUnsupported,
       "%s: the event was last recorded in a capture, and only replays of its graph reach it", function);
}

void fail_event_outside_capture() {
  fail(gxuErrorStreamCaptureUnsupported,
       "gxuStreamWaitEvent: a capturing stream cannot wait for an event that was recorded outside the capture; the "
       "capture is now invalid");
}

void fail_event_of_ended_capture() {
  fail(gxuErrorInvalidValue, "gxuStreamWaitEvent: the event was recorded in a capture that has ended; record it again");
}

void fail_two_captures() {
  fail(gxuErrorStreamCaptureUnsupported,
       "gxuStreamWaitEvent: the stream and the event belong to two captures; both are now invalid");
}

}  // namespace gxu::engine
