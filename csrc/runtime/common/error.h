// Errors inside an engine are C++ exceptions; api() turns them into the codes and messages of gxu_runtime.h.
#pragma once

#include <exception>
#include <string>

#include "../gxu_runtime.h"

namespace gxu::engine {

class Error : public std::exception {
 public:
  Error(gxuError_t code, std::string message) : code_(code), message_(std::move(message)) {}
  gxuError_t code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  gxuError_t code_;
  std::string message_;
};

// Throws Error with a printf-style message. The message says what was asked, what was found and what to do.
[[noreturn]] void fail(gxuError_t code, const char* format, ...) __attribute__((format(printf, 2, 3)));

std::string format_text(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Remembers the calling thread's last error for gxuGetLastError and gxuGetLastErrorMessage; returns `code`.
gxuError_t set_last_error(gxuError_t code, const char* message) noexcept;

}  // namespace gxu::engine
