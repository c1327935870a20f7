// What older versions of torch lack of the C++ interface that gxu is written for (torch 2.13's), under the same names.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/headeronly/version.h>

#include <string>
#include <type_traits>

#define GXU_TORCH_HAS_GRAPHS (TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13)

// kineto's own registry elsewhere; the device's name is known when torch starts kineto in both.
#if __has_include(<torch/csrc/profiler/standalone/privateuse1_profiler.h>)
#define GXU_TORCH_HAS_PROFILER_REGISTRY 1
#else
#define GXU_TORCH_HAS_PROFILER_REGISTRY 0
#endif

namespace gxu {
// The name of a lane in kineto's traces. The structure had a constructor, which took the device first.
template <typename ResourceInfo>
ResourceInfo make_resource_info(int64_t device, int64_t lane, const std::string& name) {
  if constexpr (std::is_aggregate_v<ResourceInfo>) {
    return {lane, lane, device, name};
  } else {
    return {device, lane, lane, name};
  }
}
}  // namespace gxu

// Dimensions had names, which structured kernels are given for their outputs.
#if __has_include(<ATen/core/Dimname.h>)
#define GXU_OUTPUT_NAMES , at::DimnameList names
#define GXU_PASS_OUTPUT_NAMES , names
#else
#define GXU_OUTPUT_NAMES
#define GXU_PASS_OUTPUT_NAMES
#endif

#if GXU_TORCH_HAS_GRAPHS

#include <ATen/core/GraphImplInterface.h>

#define GXU_OVERRIDE_SINCE_2_13 override

namespace gxu {
using at::GraphCaptureMode;
using at::GraphImplArgs;
using at::GraphImplInterface;
using c10::CachingDeviceAllocator::DeviceStats;
}  // namespace gxu

#else

#include <c10/util/flat_hash_map.h>

#define GXU_OVERRIDE_SINCE_2_13

namespace gxu {

// With what torch 2.13 counts in addition.
struct DeviceStats : c10::CachingDeviceAllocator::DeviceStats {
  ska::flat_hash_map<c10::MempoolId_t, c10::CachingAllocator::StatArray, c10::MempoolIdHash>
      reserved_bytes_by_private_pools;
  int64_t num_oom_rejections = 0;
};

// There is no torch.accelerator.Graph: torch.gxu.Graph is gxu._C's class over these (graph_module.cpp).
enum class GraphCaptureMode : int8_t { Default, Global, ThreadLocal, Relaxed };

struct GraphImplArgs {
  bool keep_graph = false;
};

struct GraphImplInterface {
  virtual ~GraphImplInterface() = default;
  virtual void capture_begin(c10::MempoolId_t pool, GraphCaptureMode mode) = 0;
  virtual void capture_end() = 0;
  virtual void instantiate() = 0;
  virtual void replay() = 0;
  virtual void reset() = 0;
  virtual c10::MempoolId_t pool() const = 0;
  virtual void enable_debug_mode() = 0;
  virtual void debug_dump(const std::string& path) = 0;
};

}  // namespace gxu

#endif
