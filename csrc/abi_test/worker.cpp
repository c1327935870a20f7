#include "worker.h"

#include <unistd.h>

#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <boost/test/included/unit_test.hpp>
#include <boost/test/tree/visitor.hpp>
#include <sstream>

#include "support.h"

namespace gxu::abi_test {
namespace {

namespace ut = boost::unit_test;

class Collector : public ut::test_tree_visitor {
 public:
  std::vector<Case> cases;

 private:
  void visit(const ut::test_case& test) override {
    Case found;
    found.id = test.p_id;
    found.group = ut::framework::get<ut::test_suite>(test.p_parent_id).p_name.get();
    found.name = test.p_name.get();
    found.promise = test.p_description.get();
    found.own_process = test.has_label("own_process");
    found.optional = test.has_label("optional");
    cases.push_back(std::move(found));
  }
};

// Why the running case ended early, if it asked to.
std::string reason_to_skip;

void send(int descriptor, const void* data, size_t size) {
  for (const char* next = static_cast<const char*>(data); size > 0;) {
    const ssize_t sent = write(descriptor, next, size);
    if (sent <= 0) _exit(3);  // whoever listened is gone
    next += sent;
    size -= static_cast<size_t>(sent);
  }
}

// Waits for what a case has left behind, so that the next one starts with nothing in flight.
void settle() {
  for (int device = session().device_count - 1; device >= 0; --device) {
    rt.gxuSetDevice(device);
    rt.gxuDeviceSynchronize();
  }
  rt.gxuGetLastError();
}

}  // namespace

void run_body(void (*body)()) {
  try {
    body();
  } catch (const Skipped& skipped) {
    reason_to_skip = skipped.reason;
  }
}

std::vector<Case> all_cases() {
  // A case that ends its process shall do so: the process that started it says what happened.
  static char name[] = "gxu-abi-test", no_signals[] = "--catch_system_errors=no", no_colour[] = "--color_output=no";
  static char errors[] = "--log_level=error", no_report[] = "--report_level=no",
              *arguments[] = {name, no_signals, no_colour, errors, no_report, nullptr};
  ut::framework::init([] { return true; }, 5, arguments);
  ut::framework::finalize_setup_phase();
  Collector collector;
  ut::traverse_test_tree(ut::framework::master_test_suite(), collector, true);
  return std::move(collector.cases);
}

void work(const std::vector<Case>& cases, int descriptor) {
  std::ostringstream log;
  ut::unit_test_log.set_stream(log);
  bool started = false;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Message begins{Message::kBegins, static_cast<int>(i), Outcome::kBroken, 0};
    send(descriptor, &begins, sizeof begins);
    if (!cases[i].own_process && !std::exchange(started, true)) run_body(start_library);
    log.str("");
    reason_to_skip.clear();
    ut::framework::run(cases[i].id, false);
    if (!cases[i].own_process) settle();
    const bool passed = ut::results_collector.results(cases[i].id).passed();
    Message ended{Message::kEnded, static_cast<int>(i), passed ? Outcome::kKept : Outcome::kBroken, 0};
    std::string text = log.str();
    if (text.starts_with("Running ")) text.erase(0, text.find('\n') + 1);
    if (passed && !reason_to_skip.empty()) {
      ended.outcome = Outcome::kSkipped;
      text = reason_to_skip;
    }
    ended.text_bytes = static_cast<unsigned>(text.size());
    send(descriptor, &ended, sizeof ended);
    send(descriptor, text.data(), text.size());
  }
  // Without destructors and exit handlers: leaving is not what is tested here.
  _exit(0);
}

}  // namespace gxu::abi_test
