// What goes wrong with captures, in one wording for every engine.
#pragma once

#include "error.h"

namespace gxu::engine {

[[noreturn]] void fail_default_stream_captures();
[[noreturn]] void fail_captures_already();
[[noreturn]] void fail_not_capturing();
[[noreturn]] void fail_joined_capture();

// An earlier error made the capture invalid: of a call that adds to it, and of the one that ends it.
[[noreturn]] void fail_invalid_capture();
[[noreturn]] void fail_ended_invalid();

// `function` is not for a stream that captures, or for an event of a capture.
[[noreturn]] void fail_during_capture(const char* function);
[[noreturn]] void fail_captured_event(const char* function);

// gxuStreamWaitEvent between a capture and what is not part of it.
[[noreturn]] void fail_event_outside_capture();
[[noreturn]] void fail_event_of_ended_capture();
[[noreturn]] void fail_two_captures();

}  // namespace gxu::engine
