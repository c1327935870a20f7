// Runs cases in this process by Boost.Test, and tells the process that started it what became of them.
#pragma once

#include <string>
#include <vector>

#include "outcome.h"

namespace gxu::abi_test {

// Thrown by skip().
struct Skipped {
  std::string reason;
};

// All cases of the program, in the order of the files; call it once.
std::vector<Case> all_cases();

// Runs the cases and writes a Message before and after each to the descriptor. Never returns.
[[noreturn]] void work(const std::vector<Case>& cases, int descriptor);

// What work() writes: the index of the case; whether it begins or how it ended; and the bytes of text that follow.
struct Message {
  enum Kind : int { kBegins, kEnded };
  Kind kind;
  int index;
  Outcome outcome;
  unsigned text_bytes;
};

}  // namespace gxu::abi_test
