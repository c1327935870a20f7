// gxu-abi-test LIBRARY: does a runtime library keep the promises of gxu_runtime.h?
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "library.h"
#include "options.h"
#include "report.h"
#include "runner.h"
#include "support.h"
#include "worker.h"

namespace gxu::abi_test {
namespace {

bool is_selected(const Case& what, const std::string& only) {
  if (only.empty()) return true;
  std::istringstream wanted(only);
  for (std::string name; std::getline(wanted, name, ',');) {
    if (name == what.group || name == what.name || name == what.group + "/" + what.name) return true;
  }
  return false;
}

// The kernels that come with the program, where none were given and there are some for the device.
void use_bundled_image(const std::string& triton_backend) {
  Options& options = session().options;
  const std::filesystem::path image = std::filesystem::path(options.images) / triton_backend;
  if (!options.kernel.empty() || !std::filesystem::is_regular_file(image)) return;
  options.kernel = image;
  options.symbol = "append_digit";
  options.assert_symbol = "fail_assertion";
  options.fault_symbol = "write_to_bad_address";
  options.empty_symbol = "do_nothing";
}

int run(const Options& options) {
  session().options = options;
  std::vector<Case> cases = all_cases();
  std::erase_if(cases, [&](const Case& what) { return !is_selected(what, options.only); });
  if (cases.empty()) throw std::runtime_error("no case is named '" + options.only + "': see --list");
  if (options.list) {
    for (const Case& what : cases) {
      std::printf("%s/%s%s\n    %s\n", what.group.c_str(), what.name.c_str(), what.optional ? " (optional)" : "",
                  what.promise.c_str());
    }
    return 0;
  }
  const std::vector<std::string> missing = open_library(options.library);
  if (!missing.empty()) {
    std::printf("%s lacks %zu functions of gxu_runtime.h:\n", options.library.c_str(), missing.size());
    for (const std::string& name : missing) std::printf("  %s\n", name.c_str());
    return 1;
  }
  const Identity identity = identify(options.timeout);
  use_bundled_image(identity.triton_backend);
  print_heading(options.library, identity);
  std::string group;
  const std::vector<Result> results = run_cases(cases, options.timeout, [&](const Result& result) {
    print_result(result, group);
    group = result.what.group;
  });
  print_summary(results);
  if (!options.json.empty()) write_json(options.json, options.library, identity, results);
  const bool broken =
      std::any_of(results.begin(), results.end(), [](const Result& r) { return r.outcome == Outcome::kBroken; });
  return broken ? 1 : 0;
}

}  // namespace
}  // namespace gxu::abi_test

int main(int argc, char** argv) {
  try {
    return gxu::abi_test::run(gxu::abi_test::parse_options(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gxu-abi-test: %s\n", error.what());
    return 2;
  }
}
