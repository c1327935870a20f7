#include "runner.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "support.h"
#include "worker.h"

namespace gxu::abi_test {
namespace {

using Clock = std::chrono::steady_clock;

// A forked child and the pipe that it writes to.
class Child {
 public:
  explicit Child(const std::function<void(int)>& body) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    process_ = fork();
    if (process_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (process_ == 0) {
      setpgid(0, 0);  // what a case starts ends with it
      close(ends[0]);
      body(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    descriptor_ = ends[0];
  }
  Child(const Child&) = delete;
  ~Child() {
    close(descriptor_);
    kill(-process_, SIGKILL);
    wait();
  }

  // Reads `size` bytes; false at the end of the pipe or at the deadline.
  bool read(void* data, size_t size, Clock::time_point deadline) {
    for (char* next = static_cast<char*>(data); size > 0;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      pollfd waiting{descriptor_, POLLIN, 0};
      if (poll(&waiting, 1, std::max<int>(0, static_cast<int>(left))) == 0) {
        timed_out_ = true;
        kill(-process_, SIGKILL);
        return false;
      }
      const ssize_t got = ::read(descriptor_, next, size);
      if (got <= 0) return false;
      next += got;
      size -= static_cast<size_t>(got);
    }
    return true;
  }

  // How it ended, for people.
  std::string end() {
    if (timed_out_) return "did not come to an end in time; its process was stopped";
    wait();
    if (WIFSIGNALED(status_)) return std::string("its process was ended by a signal: ") + strsignal(WTERMSIG(status_));
    return "its process ended with exit status " + std::to_string(WEXITSTATUS(status_));
  }

 private:
  void wait() {
    if (!waited_) waitpid(process_, &status_, 0);
    waited_ = true;
  }

  pid_t process_;
  int descriptor_ = -1, status_ = 0;
  bool waited_ = false, timed_out_ = false;
};

// The cases from `first` on that one child can run.
std::vector<Case> batch(const std::vector<Case>& cases, size_t first) {
  size_t last = first + 1;
  if (!cases[first].own_process) {
    while (last < cases.size() && !cases[last].own_process) ++last;
  }
  return {cases.begin() + static_cast<long>(first), cases.begin() + static_cast<long>(last)};
}

// Runs one child and appends the results of what it came to; at least one.
void run_batch(const std::vector<Case>& cases, double timeout, const std::function<void(Result)>& add) {
  Child child([&](int descriptor) { work(cases, descriptor); });
  const auto patience = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout));
  for (const Case& what : cases) {
    Result result;
    result.what = what;
    const auto began = Clock::now();
    Message message;
    bool complete = child.read(&message, sizeof message, began + patience) &&
                    child.read(&message, sizeof message, began + patience);
    if (complete) {
      result.outcome = message.outcome;
      result.detail.resize(message.text_bytes);
      complete = child.read(result.detail.data(), message.text_bytes, began + patience);
    }
    if (!complete) result.detail = child.end();
    result.seconds = std::chrono::duration<double>(Clock::now() - began).count();
    add(std::move(result));
    if (!complete) return;
  }
}

}  // namespace

std::vector<Result> run_cases(const std::vector<Case>& cases, double timeout,
                              const std::function<void(const Result&)>& on_result) {
  std::vector<Result> results;
  while (results.size() < cases.size()) {
    run_batch(batch(cases, results.size()), timeout, [&](Result result) {
      const bool may_be_absent = result.what.optional && !session().options.strict;
      if (result.outcome == Outcome::kBroken && may_be_absent) result.outcome = Outcome::kNotOffered;
      on_result(result);
      results.push_back(std::move(result));
    });
  }
  return results;
}

Identity identify(double timeout) {
  Child child([](int descriptor) {
    std::string text;
    int version = 0;
    const auto fail = [&](const char* call) { text = std::string("!") + call + ": " + rt.gxuGetLastErrorMessage(); };
    int count = 0;
    if (rt.gxuGetVersion(&version) != gxuSuccess) {
      fail("gxuGetVersion");
    } else if (rt.gxuInit(0) != gxuSuccess) {
      fail("gxuInit");
    } else if (rt.gxuGetDeviceCount(&count) != gxuSuccess) {
      fail("gxuGetDeviceCount");
    }
    for (int device = 0; device < count; ++device) {
      gxuDeviceProperties properties{};
      properties.struct_size = sizeof properties;
      if (rt.gxuGetDeviceProperties(&properties, device) != gxuSuccess) {
        fail("gxuGetDeviceProperties");
        break;
      }
      if (device == 0) text += std::string(properties.triton_backend) + "\n";
      text += "device " + std::to_string(device) + ": " + properties.name + ", Triton target " +
              properties.triton_backend + " " + properties.triton_arch + ", " +
              std::to_string(properties.total_memory >> 20) + " MiB\n";
    }
    text.insert(0, std::to_string(version) + "\n");
    if (write(descriptor, text.data(), text.size()) < 0) _exit(3);
    // Not by exit(): a library that cannot leave well is found by the cases.
    _exit(0);
  });
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout));
  std::string text;
  for (char next; child.read(&next, 1, deadline);) text += next;
  const size_t first_line = text.find('\n');
  if (first_line == std::string::npos) throw std::runtime_error("the library does not start: " + child.end());
  Identity identity;
  identity.version = std::stoi(text);
  std::istringstream lines(text.substr(first_line + 1));
  for (std::string line; std::getline(lines, line);) {
    if (line[0] == '!') throw std::runtime_error("the library does not start: " + line.substr(1));
    identity.devices.push_back(line);
  }
  if (!identity.devices.empty()) {
    identity.triton_backend = identity.devices.front();
    identity.devices.erase(identity.devices.begin());
  }
  return identity;
}

}  // namespace gxu::abi_test
