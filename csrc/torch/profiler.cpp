// The session that kineto, torch.profiler's collector, asks for the trace of the gxu devices.
#include "profiler.h"

#define FMT_HEADER_ONLY  // torch does not export fmt
#include <fmt/format.h>
#include <libkineto.h>
#include <output_base.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "device_name.h"
#include "profiler_records.h"
#include "torch_compat.h"

#if GXU_TORCH_HAS_PROFILER_REGISTRY
#define USE_KINETO  // as torch itself was built; the header is empty without it
#include <torch/csrc/profiler/standalone/privateuse1_profiler.h>
#endif

namespace gxu {
namespace {

using libkineto::ActivityType;
using libkineto::GenericTraceActivity;
using libkineto::ITraceActivity;

const std::set<ActivityType>& supported_activities() {
  static const auto* types = new std::set<ActivityType>{
      ActivityType::CONCURRENT_KERNEL,   ActivityType::GPU_MEMCPY,          ActivityType::GPU_MEMSET,
      ActivityType::GPU_USER_ANNOTATION, ActivityType::PRIVATEUSE1_RUNTIME, ActivityType::PRIVATEUSE1_DRIVER,
  };
  return *types;
}

const char* copy_name(gxuMemcpyKind kind) {
  switch (kind) {
    case gxuMemcpyHostToDevice:
      return "Memcpy HtoD";
    case gxuMemcpyDeviceToHost:
      return "Memcpy DtoH";
    case gxuMemcpyDeviceToDevice:
      return "Memcpy DtoD";
    default:
      return "Memcpy HtoH";
  }
}

std::string activity_name(const DeviceRecord& record) {
  switch (record.kind) {
    case gxuActivityMemcpy:
      return copy_name(record.copy_kind);
    case gxuActivityMemset:
      return "Memset";
    default:
      return record.name;
  }
}

ActivityType activity_type(const DeviceRecord& record) {
  switch (record.kind) {
    case gxuActivityMemcpy:
      return ActivityType::GPU_MEMCPY;
    case gxuActivityMemset:
      return ActivityType::GPU_MEMSET;
    default:
      return ActivityType::CONCURRENT_KERNEL;
  }
}

// Numbers the lanes of each device: 0 is its default stream, the others in order of their first work.
class Lanes {
 public:
  int32_t of(c10::DeviceIndex device, uint64_t stream) {
    auto& streams = devices_[device];
    streams.emplace(0, 0);
    return streams.emplace(stream, static_cast<int32_t>(streams.size())).first->second;
  }

  void describe(libkineto::ActivityLogger& logger, int64_t time) const {
    for (const auto& [device, streams] : devices_) {
      logger.handleDeviceInfo(device_info(device), time);
      for (const auto& [stream, lane] : streams) {
        const std::string name = stream == 0 ? "default stream" : fmt::format("stream {}", lane);
        logger.handleResourceInfo(make_resource_info<libkineto::ResourceInfo>(device, lane, name), time);
      }
    }
  }

  std::unique_ptr<libkineto::DeviceInfo> first_device() const {
    return devices_.empty() ? nullptr : std::make_unique<libkineto::DeviceInfo>(device_info(devices_.begin()->first));
  }

 private:
  static libkineto::DeviceInfo device_info(c10::DeviceIndex device) {
    const std::string name = fmt::format("GXU {}", device);
    return {device, libkineto::kExceedMaxPid + device, name, name};
  }

  std::map<c10::DeviceIndex, std::map<uint64_t, int32_t>> devices_;
};

class Session final : public libkineto::IActivityProfilerSession {
 public:
  void start() override {
    try {
      start_recording();
    } catch (const std::exception& error) {
      errors_.emplace_back(error.what());
    }
  }
  void stop() override { records_ = stop_recording(); }

  void pushCorrelationId(uint64_t id) override { push_operator(id); }
  void popCorrelationId() override { pop_operator(); }
  void pushUserCorrelationId(uint64_t id) override { push_range(id); }
  void popUserCorrelationId() override { pop_range(); }

  std::vector<std::string> errors() override { return errors_; }
  // Without this, kineto calls the lanes those of GPU 0 to 15. It asks for one device; Lanes::describe names all.
  std::unique_ptr<libkineto::DeviceInfo> getDeviceInfo() override { return lanes_.first_device(); }
  std::vector<libkineto::ResourceInfo> getResourceInfos() override { return {}; }
  std::unique_ptr<libkineto::CpuTraceBuffer> getTraceBuffer() override { return std::move(buffer_); }

  void processTrace(libkineto::ActivityLogger& logger) override {
    processTrace(logger, [](int32_t) { return nullptr; }, 0, INT64_MAX);
  }

  void processTrace(libkineto::ActivityLogger& logger, libkineto::getLinkedActivityCallback linked, int64_t start,
                    int64_t end) override {
    linked_ = std::move(linked);
    window_start_ = start;
    window_end_ = end;
    buffer_ = std::make_unique<libkineto::CpuTraceBuffer>();
    buffer_->span = libkineto::TraceSpan(start, end, device_name());
    for (const RuntimeCallRecord& call : records_.calls) {
      contexts_.emplace(call.id, call.context);
    }
    for (const DeviceRecord& record : records_.activities) {
      add_device_activity(record);
    }
    for (const RuntimeCallRecord& call : records_.calls) {
      add_runtime_call(call);
    }
    add_ranges();
    for (const auto& activity : buffer_->activities) {
      logger.handleGenericActivity(*activity);
    }
    lanes_.describe(logger, start);
    records_ = {};
  }

 private:
  struct Range {
    int64_t start;
    int64_t end;
  };

  GenericTraceActivity& add(ActivityType type, const std::string& name, int64_t start, int64_t end) {
    buffer_->emplace_activity(buffer_->span, type, name);
    GenericTraceActivity& activity = *buffer_->activities.back();
    activity.startTime = start;
    activity.endTime = end;
    return activity;
  }

  void add_device_activity(const DeviceRecord& record) {
    if (record.start < window_start_ || record.end > window_end_) {
      return;  // of the warm-up
    }
    const auto call = contexts_.find(record.call);
    const HostContext context = call == contexts_.end() ? record.context : call->second;
    const int32_t lane = lanes_.of(record.device, record.stream);
    GenericTraceActivity& activity = add(activity_type(record), activity_name(record), record.start, record.end);
    activity.device = record.device;
    activity.resource = lane;
    activity.addMetadata("device", static_cast<int>(record.device));
    activity.addMetadata("stream", lane);
    if (record.bytes > 0) {
      activity.addMetadata("bytes", record.bytes);
      activity.addMetadata("memory bandwidth (GB/s)",
                           static_cast<double>(record.bytes) / static_cast<double>(record.end - record.start + 1));
    }
    if (record.grid[0] > 0) {
      activity.addMetadata("grid", fmt::format("[{}, {}, {}]", record.grid[0], record.grid[1], record.grid[2]));
    }
    link(activity, context);
    if (call != contexts_.end()) {
      connect(activity, record.call, false);
      called_.insert(record.call);
    }
    if (context.range != 0) {
      const auto key = std::make_tuple(context.range, record.device, lane);
      auto [entry, is_new] = ranges_.try_emplace(key, Range{record.start, record.end});
      entry->second.start = std::min(entry->second.start, record.start);
      entry->second.end = std::max(entry->second.end, record.end);
    }
  }

  void add_runtime_call(const RuntimeCallRecord& call) {
    if (call.start < window_start_ || call.end > window_end_) {
      return;
    }
    GenericTraceActivity& activity = add(ActivityType::PRIVATEUSE1_RUNTIME, call.name, call.start, call.end);
    activity.device = libkineto::processId();
    activity.resource = call.thread;
    activity.threadId = call.thread;
    link(activity, call.context);
    if (called_.count(call.id) > 0) {
      connect(activity, call.id, true);
    }
  }

  // What each record_function did on each lane.
  void add_ranges() {
    for (const auto& [key, range] : ranges_) {
      const auto& [id, device, lane] = key;
      const ITraceActivity* annotation = linked_(static_cast<int32_t>(id));
      if (annotation == nullptr) {
        continue;
      }
      GenericTraceActivity& activity =
          add(ActivityType::GPU_USER_ANNOTATION, annotation->name(), range.start, range.end);
      // Not linked, as CUDA's are not: torch.profiler adds up what is linked to an operator, and the kernels are.
      activity.device = device;
      activity.resource = lane;
    }
  }

  void link(GenericTraceActivity& activity, const HostContext& context) const {
    const uint64_t id = context.op != 0 ? context.op : context.range;
    activity.linked = id == 0 ? nullptr : linked_(static_cast<int32_t>(id));
  }

  // The arrow from a call to the work that it enqueued.
  static void connect(GenericTraceActivity& activity, uint64_t call, bool is_start) {
    activity.id = static_cast<int32_t>(call);
    activity.flow.id = static_cast<uint32_t>(call);
    activity.flow.type = libkineto::kLinkAsyncCpuGpu;
    activity.flow.start = is_start ? 1 : 0;
    activity.addMetadata("correlation", call);
  }

  std::vector<std::string> errors_;
  ProfilerRecords records_;
  std::unique_ptr<libkineto::CpuTraceBuffer> buffer_;
  libkineto::getLinkedActivityCallback linked_;
  int64_t window_start_ = 0;
  int64_t window_end_ = 0;
  std::unordered_map<uint64_t, HostContext> contexts_;  // by call
  std::set<uint64_t> called_;                           // calls whose work was seen
  std::map<std::tuple<uint64_t, c10::DeviceIndex, int32_t>, Range> ranges_;
  Lanes lanes_;
};

class Profiler final : public libkineto::IActivityProfiler {
 public:
  const std::string& name() const override { return name_; }
  const std::set<ActivityType>& availableActivities() const override { return supported_activities(); }

  std::unique_ptr<libkineto::IActivityProfilerSession> configure(const std::set<ActivityType>& types,
                                                                 const libkineto::Config& /*config*/) override {
    // A profile of the CPU alone asks for calls of every runtime, but not for kernels.
    return types.count(ActivityType::CONCURRENT_KERNEL) > 0 ? std::make_unique<Session>() : nullptr;
  }
  std::unique_ptr<libkineto::IActivityProfilerSession> configure(int64_t /*start*/, int64_t /*duration*/,
                                                                 const std::set<ActivityType>& types,
                                                                 const libkineto::Config& config) override {
    return configure(types, config);
  }

 private:
  const std::string name_ = device_name();
};

#if GXU_TORCH_HAS_PROFILER_REGISTRY
REGISTER_PRIVATEUSE1_PROFILER(Profiler);
#else
[[maybe_unused]] const bool is_registered =
    (libkineto::api().registerProfilerFactory([] { return std::make_unique<Profiler>(); }), true);
#endif

}  // namespace
}  // namespace gxu
