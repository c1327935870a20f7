#include "event.h"
#include "graph.h"
#include "launch.h"
#include "parallel.h"
#include "record.h"
#include "stream.h"

namespace gxu::host {
namespace {

struct Executor {
  Device& device;

  void operator()(std::monostate) const {}
  void operator()(const KernelLaunch& launch) const {
    adopt_team_size(launch.threads);
    run_kernel(launch, device);
  }
  void operator()(const Copy& copy) const { copy_bytes(copy.dst, copy.src, copy.size); }
  void operator()(const Fill& fill) const { fill_bytes(fill.dst, fill.value, fill.size); }
  void operator()(const HostCall& call) const { run_host_function(call); }
  void operator()(const Wait& wait) const { wait.stream->wait_until(wait.position); }
  void operator()(const Stamp& stamp) const { stamp.event->stamp(stamp.ticket); }
  void operator()(const Replay& replay) const {
    for (const Record& record : replay.graph->records) std::visit(*this, record);
  }
};

}  // namespace

void execute(const Record& record, Device& device) { std::visit(Executor{device}, record); }

}  // namespace gxu::host
