#include "activity.h"
#include "event.h"
#include "graph.h"
#include "launch.h"
#include "parallel.h"
#include "record.h"
#include "stream.h"

namespace gxu::host {
namespace {

struct Executor {
  Stream& stream;
  const Replay* replay = nullptr;  // what the records belong to; its correlation is theirs

  template <typename Work>
  ActivityScope activity(const Work& work) const {
    return ActivityScope(stream, work, replay != nullptr ? replay->correlation : work.correlation);
  }

  void operator()(std::monostate) const {}
  void operator()(const KernelLaunch& launch) const {
    adopt_team_size(launch.threads);
    const ActivityScope scope = activity(launch);
    run_kernel(launch, stream.device());
  }
  void operator()(const Copy& copy) const {
    const ActivityScope scope = activity(copy);
    copy_bytes(copy.dst, copy.src, copy.size);
  }
  void operator()(const Fill& fill) const {
    const ActivityScope scope = activity(fill);
    fill_bytes(fill.dst, fill.value, fill.size);
  }
  void operator()(const HostCall& call) const { call_host_function(call.function, call.user_data); }
  void operator()(const Wait& wait) const { wait.stream->wait_until(wait.position); }
  void operator()(const Stamp& stamp) const { stamp.event->stamp(stamp.ticket); }
  void operator()(const Replay& nested) const {
    const Executor inside{stream, replay != nullptr ? replay : &nested};
    for (const Record& record : nested.graph->records) std::visit(inside, record);
  }
};

}  // namespace

void execute(const Record& record, Stream& stream) { std::visit(Executor{stream}, record); }

}  // namespace gxu::host
