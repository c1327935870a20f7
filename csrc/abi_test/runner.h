// Runs the cases in child processes, so that one which crashes or hangs is one broken promise and not the end.
#pragma once

#include <functional>
#include <vector>

#include "outcome.h"
#include "report.h"

namespace gxu::abi_test {

// Runs the cases in order and hands over each result as it comes. `timeout` in seconds a case.
std::vector<Result> run_cases(const std::vector<Case>& cases, double timeout,
                              const std::function<void(const Result&)>& on_result);

// Asks the library, in a child process, for its version and devices. Throws std::runtime_error with the reason where
// it cannot be started.
Identity identify(double timeout);

}  // namespace gxu::abi_test
