#include "allocator_module.h"

#include <c10/core/AllocatorConfig.h>
#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/profiler/combined_traceback.h>

#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocator.h"
#include "stream.h"

namespace py = pybind11;

namespace gxu {
namespace {

using c10::CachingDeviceAllocator::SegmentInfo;
using PoolId = std::pair<uint64_t, uint64_t>;

c10::MempoolId_t to_pool_id(const PoolId& id) { return {id.first, id.second}; }

// Stack frames as lists of dictionaries, all of a snapshot symbolised at once: frames occur in many stacks.
class Frames {
 public:
  // The number of the stack behind `context`, -1 where there is none.
  int64_t add(const std::shared_ptr<c10::GatheredContext>& context) {
    if (context == nullptr) {
      return -1;
    }
    tracebacks_.push_back(torch::getCapturedTracebackFromContext(context));
    return static_cast<int64_t>(tracebacks_.size()) - 1;
  }
  void symbolize() {
    const torch::SymbolizedTracebacks symbolized = torch::symbolize(tracebacks_);
    std::vector<py::dict> frames;
    for (const auto& frame : symbolized.all_frames) {
      py::dict& entry = frames.emplace_back();
      entry["filename"] = frame.filename;
      entry["name"] = frame.funcname;
      entry["line"] = frame.lineno;
    }
    for (const auto& traceback : symbolized.tracebacks) {
      py::list& stack = stacks_.emplace_back();
      for (const uint64_t frame : traceback) {
        stack.append(frames[frame]);
      }
    }
  }
  py::list get(int64_t index) const { return index < 0 ? py::list() : stacks_[index]; }

 private:
  std::vector<torch::CapturedTraceback*> tracebacks_;
  std::vector<py::list> stacks_;
};

const char* action_name(TraceEntry::Action action) {
  switch (action) {
    case TraceEntry::ALLOC:
      return "alloc";
    case TraceEntry::FREE_REQUESTED:
      return "free_requested";
    case TraceEntry::FREE_COMPLETED:
      return "free_completed";
    case TraceEntry::SEGMENT_ALLOC:
      return "segment_alloc";
    case TraceEntry::SEGMENT_FREE:
      return "segment_free";
    case TraceEntry::SEGMENT_MAP:
      return "segment_map";
    case TraceEntry::SEGMENT_UNMAP:
      return "segment_unmap";
    case TraceEntry::SNAPSHOT:
      return "snapshot";
    case TraceEntry::OOM:
      return "oom";
  }
  return "unknown";
}

py::dict block_dict(const c10::CachingDeviceAllocator::BlockInfo& block, size_t address, py::list frames) {
  py::dict result;
  result["address"] = address;
  result["size"] = block.size;
  result["requested_size"] = block.requested_size;
  result["state"] = block.allocated ? "active_allocated" : block.active ? "active_awaiting_free" : "inactive";
  result["frames"] = std::move(frames);
  return result;
}

py::dict segment_dict(const SegmentInfo& segment, py::object frames, py::list blocks) {
  py::dict result;
  result["device"] = static_cast<int>(segment.device);
  result["address"] = segment.address;
  result["total_size"] = segment.total_size;
  result["allocated_size"] = segment.allocated_size;
  result["active_size"] = segment.active_size;
  result["requested_size"] = segment.requested_size;
  result["stream"] = reinterpret_cast<int64_t>(segment.stream);
  result["segment_type"] = segment.is_large ? "large" : "small";
  result["segment_pool_id"] = segment.owner_private_pool_id;
  result["is_expandable"] = segment.is_expandable;
  result["frames"] = std::move(frames);
  result["blocks"] = std::move(blocks);
  return result;
}

py::dict entry_dict(const TraceEntry& entry, py::list frames) {
  py::dict result;
  result["action"] = action_name(entry.action_);
  result[entry.action_ == TraceEntry::OOM ? "device_free" : "addr"] = entry.addr_;
  result["size"] = entry.size_;
  result["stream"] = reinterpret_cast<int64_t>(entry.stream_);
  result["pool_id"] = entry.mempool_;
  result["time_us"] = entry.time_.t_ / 1000;
  result["compile_context"] = entry.compile_context_;
  result["user_metadata"] = entry.user_metadata_;
  result["frames"] = std::move(frames);
  return result;
}

py::dict settings_dict() {
  using Config = c10::CachingAllocator::AcceleratorAllocatorConfig;
  py::dict result;
  result["PYTORCH_ALLOC_CONF"] = Config::last_allocator_settings();
  result["max_split_size"] = static_cast<int64_t>(Config::max_split_size());
  result["garbage_collection_threshold"] = Config::garbage_collection_threshold();
  result["expandable_segments"] = false;
  py::dict divisions;
  size_t megabytes = 1;
  for (const size_t count : Config::roundup_power2_divisions()) {
    divisions[py::str(std::to_string(megabytes))] = count;
    megabytes *= 2;
  }
  result["roundup_power2_divisions"] = divisions;
  return result;
}

// In the format of torch.cuda.memory._snapshot.
py::dict memory_snapshot(const PoolId& pool, bool include_traces) {
  const MemorySnapshot snapshot = CachingAllocator::instance().snapshot(to_pool_id(pool), include_traces);
  Frames frames;
  std::vector<int64_t> stacks;  // in the order in which the dictionaries are made
  for (const SegmentInfo& segment : snapshot.segments) {
    for (const auto& block : segment.blocks) {
      stacks.push_back(frames.add(block.context_when_allocated));
    }
    stacks.push_back(frames.add(segment.context_when_allocated));
  }
  for (const auto& trace : snapshot.device_traces) {
    for (const TraceEntry& entry : trace) {
      stacks.push_back(frames.add(entry.context_));
    }
  }
  frames.symbolize();
  auto stack = stacks.begin();

  py::list segments;
  for (const SegmentInfo& segment : snapshot.segments) {
    py::list blocks;
    size_t address = segment.address;
    for (const auto& block : segment.blocks) {
      blocks.append(block_dict(block, address, frames.get(*stack++)));
      address += block.size;
    }
    segments.append(segment_dict(segment, frames.get(*stack++), std::move(blocks)));
  }
  py::list device_traces;
  for (const auto& trace : snapshot.device_traces) {
    py::list entries;
    for (const TraceEntry& entry : trace) {
      entries.append(entry_dict(entry, frames.get(*stack++)));
    }
    device_traces.append(std::move(entries));
  }
  py::dict result;
  result["segments"] = std::move(segments);
  result["device_traces"] = std::move(device_traces);
  result["allocator_settings"] = settings_dict();
  result["external_annotations"] = py::list();
  return result;
}

std::shared_ptr<c10::GatheredContext> python_stack() { return torch::CapturedTraceback::gather(true, true, false); }
std::shared_ptr<c10::GatheredContext> full_stack() { return torch::CapturedTraceback::gather(true, true, true); }

// `enabled`: None, "state" or "all"; `context`: None, "state", "alloc" or "all"; `stacks`: "python" or "all".
void record_memory_history(const std::optional<std::string>& enabled, const std::optional<std::string>& context,
                           const std::string& stacks, uint64_t max_entries, bool clear_history,
                           const std::vector<std::string>& skip_actions) {
  TORCH_CHECK_VALUE(!enabled || *enabled == "state" || *enabled == "all",
                    "enabled must be None, 'state' or 'all', not '", enabled.value_or(""), "'.");
  TORCH_CHECK_VALUE(!context || *context == "state" || *context == "alloc" || *context == "all",
                    "context must be None, 'state', 'alloc' or 'all', not '", context.value_or(""), "'.");
  TORCH_CHECK_VALUE(stacks == "python" || stacks == "all", "stacks must be 'python' or 'all', not '", stacks, "'.");
  HistorySettings settings;
  settings.enabled = enabled.has_value();
  settings.create_context = stacks == "all" ? &full_stack : &python_stack;
  settings.when = !context              ? RecordContext::NEVER
                  : *context == "state" ? RecordContext::STATE
                  : *context == "alloc" ? RecordContext::ALLOC
                                        : RecordContext::ALL;
  settings.max_entries = enabled == "all" ? max_entries : 0;
  for (const std::string& action : skip_actions) {
    settings.skipped_actions.push_back(c10::CachingDeviceAllocator::parseTraceEntryAction(action));
  }
  CachingAllocator::instance().record_history(settings, clear_history);
}

py::object allocation_traceback(uint64_t pointer) {
  const auto context = CachingAllocator::instance().allocation_context(reinterpret_cast<void*>(pointer));
  if (context == nullptr) {
    return py::none();
  }
  Frames frames;
  const int64_t index = frames.add(context);
  frames.symbolize();
  return frames.get(index);
}

py::dict reserved_bytes_by_private_pools(int64_t device) {
  constexpr const char* kPools[] = {"all", "small_pool", "large_pool"};
  py::dict result;
  const auto stats = CachingAllocator::instance().statistics(static_cast<c10::DeviceIndex>(device));
  for (const auto& [id, pools] : stats.reserved_bytes_by_private_pools) {
    py::dict by_kind;
    for (size_t kind = 0; kind < pools.size(); ++kind) {
      py::dict values;
      values["current"] = pools[kind].current;
      values["peak"] = pools[kind].peak;
      values["allocated"] = pools[kind].allocated;
      values["freed"] = pools[kind].freed;
      by_kind[kPools[kind]] = values;
    }
    result[py::cast(id)] = by_kind;
  }
  return result;
}

template <typename Function>
auto wrap(Function&& function) {
  return torch::wrap_pybind_function(std::forward<Function>(function));
}

template <typename Function>
auto wrap_no_gil(Function&& function) {
  return torch::wrap_pybind_function_no_gil(std::forward<Function>(function));
}

void define_pools(py::module_& m) {
  m.def("new_pool_id", wrap([] { return PoolId(CachingAllocator::new_pool_id(true)); }),
        "new_pool_id() -> tuple[int, int]\n\nThe id of a private pool that a user makes.");
  m.def("retain_pool", wrap([](int64_t device, const PoolId& pool, bool use_on_oom, bool no_split) {
          CachingAllocator::instance().retain_pool(resolve_device_index(device), to_pool_id(pool), use_on_oom,
                                                   no_split);
        }),
        py::arg("device"), py::arg("pool"), py::arg("use_on_oom") = false, py::arg("no_split") = false);
  m.def("release_pool", wrap([](int64_t device, const PoolId& pool) {
          CachingAllocator::instance().release_pool(resolve_device_index(device), to_pool_id(pool));
        }),
        py::arg("device"), py::arg("pool"));
  m.def("pool_use_count", wrap([](int64_t device, const PoolId& pool) {
          return CachingAllocator::instance().pool_use_count(resolve_device_index(device), to_pool_id(pool));
        }),
        py::arg("device"), py::arg("pool"));
  m.def("begin_allocate_current_thread_to_pool", wrap([](int64_t device, const PoolId& pool) {
          CachingAllocator::instance().begin_allocate_to_pool(
              resolve_device_index(device), to_pool_id(pool),
              [thread = std::this_thread::get_id()](c10::StreamId) { return thread == std::this_thread::get_id(); });
        }),
        py::arg("device"), py::arg("pool"), "From here on, requests of this thread are served from the pool.");
  m.def("end_allocate_to_pool", wrap([](int64_t device, const PoolId& pool) {
          CachingAllocator::instance().end_allocate_to_pool(resolve_device_index(device), to_pool_id(pool));
        }),
        py::arg("device"), py::arg("pool"));
  m.def("empty_pool",
        wrap_no_gil([](const PoolId& pool) { CachingAllocator::instance().emptyCache(to_pool_id(pool)); }),
        py::arg("pool"), "Gives segments of the pool that hold nothing back to the runtime.");
  m.def("reserved_bytes_by_private_pools", wrap(&reserved_bytes_by_private_pools), py::arg("device"));
}

}  // namespace

void define_allocator_functions(py::module_& m) {
  define_pools(m);
  m.def("memory_snapshot", wrap(&memory_snapshot), py::arg("pool") = PoolId(0, 0), py::arg("include_traces") = true,
        "Segments, blocks and the recorded history, in the format of torch.cuda.memory._snapshot.");
  m.def("record_memory_history", wrap(&record_memory_history), py::arg("enabled"), py::arg("context"),
        py::arg("stacks"), py::arg("max_entries"), py::arg("clear_history"), py::arg("skip_actions"));
  m.def("allocation_traceback", wrap(&allocation_traceback), py::arg("pointer"),
        "The stack from which the block that starts at the address was allocated; None where it is not recorded.");
  m.def("set_memory_metadata", wrap(&set_memory_metadata), py::arg("metadata"));
  m.def("get_memory_metadata", wrap(&memory_metadata));
  m.def("set_memory_fraction", wrap([](double fraction, int64_t device) {
          CachingAllocator::instance().set_memory_fraction(resolve_device_index(device), fraction);
        }),
        py::arg("fraction"), py::arg("device"));
  m.def("get_memory_fraction",
        wrap([](int64_t device) { return CachingAllocator::instance().memory_fraction(resolve_device_index(device)); }),
        py::arg("device"));
  m.def("caching_allocator_alloc", wrap_no_gil([](uint64_t size, int64_t stream, int64_t device) {
          return reinterpret_cast<uint64_t>(
              CachingAllocator::instance().allocate_raw(resolve_device_index(device), size, stream));
        }),
        py::arg("size"), py::arg("stream"), py::arg("device"), "The address of `size` bytes for use on the stream.");
  m.def("caching_allocator_delete", wrap_no_gil([](uint64_t pointer) {
          TORCH_CHECK_VALUE(pointer == 0 || CachingAllocator::try_free(reinterpret_cast<void*>(pointer)),
                            "The address ", pointer, " is not the start of memory that the allocator gave out.");
        }),
        py::arg("pointer"));
  m.def("fail_allocation", wrap([](uint64_t nth, int64_t device) {
          CachingAllocator::instance().fail_allocation(resolve_device_index(device), nth);
        }),
        py::arg("nth"), py::arg("device"), "Makes the nth allocation from here on fail; 0: none.");
}

}  // namespace gxu
