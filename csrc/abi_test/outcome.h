// What became of a case.
#pragma once

#include <string>
#include <vector>

namespace gxu::abi_test {

enum class Outcome {
  kKept,
  kBroken,
  kSkipped,     // could not be checked here; `detail` says why
  kNotOffered,  // a promise that the header makes for the host engine alone, and that this library does not keep
};

struct Case {
  unsigned long id = 0;  // Boost.Test's
  std::string group;
  std::string name;
  std::string promise;
  bool own_process = false;  // gets a process in which the library is new, and that it may break
  bool optional = false;     // may be kNotOffered
};

struct Result {
  Case what;
  Outcome outcome = Outcome::kBroken;
  std::string detail;  // failed checks, or the reason
  double seconds = 0;
};

}  // namespace gxu::abi_test
