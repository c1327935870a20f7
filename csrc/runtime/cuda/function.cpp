#include "function.h"

#include <set>
#include <string>

#include "../common/api.h"
#include "../common/handle_table.h"
#include "../gxu_function_attributes.h"
#include "device.h"
#include "image.h"

namespace gxu::cuda {
namespace {

// What a kernel may use without asking for more.
constexpr int kDefaultSharedBytes = 48 << 10;
// The most blocks of a cluster that every device with clusters allows.
constexpr int kPortableClusterWidth = 8;

using FunctionTable = HandleTable<gxuFunction_t, Function, HandleKind::kFunction>;

FunctionTable& function_handles() {
  static auto* table = new FunctionTable;
  return *table;
}

// One copy of each name, for messages that come after the module is gone.
const char* lasting_name(const char* name) {
  static auto* mutex = new std::mutex;
  static auto* names = new std::set<std::string>;
  std::lock_guard lock(*mutex);
  return names->insert(name).first->c_str();
}

size_t count_params(CUfunction function) {
  if (driver.cuFuncGetParamInfo == nullptr) return 0;
  size_t count = 0;
  size_t offset = 0;
  size_t size = 0;
  while (driver.cuFuncGetParamInfo(function, count, &offset, &size) == CUDA_SUCCESS) ++count;
  return count;
}

void require_flag(const char* name, int value) {
  if (value != 0 && value != 1) fail(gxuErrorInvalidValue, "gxuFuncSetAttribute: %s is 0 or 1, not %d", name, value);
}

int read_attribute(CUfunction function, CUfunction_attribute attribute) {
  int value = 0;
  GXU_DRIVER(cuFuncGetAttribute, &value, attribute, function);
  return value;
}

}  // namespace

Function::Function(const char* name, Image& image)
    : name_(lasting_name(name)), image_(image), functions_(static_cast<size_t>(device_count())) {}

size_t Function::device_slot(const Device& device) { return static_cast<size_t>(device.index()); }

CUfunction Function::find_on(Device& device) {
  const CUmodule module = image_.module(device);
  CUfunction function = nullptr;
  const CUresult result = driver.cuModuleGetFunction(&function, module, name_);
  if (result == CUDA_ERROR_NOT_FOUND) {
    fail(gxuErrorNotFound, "cuModuleGetFunction: %s: %s has no kernel '%s'", describe(result).c_str(),
         image_.name().c_str(), name_);
  }
  check(result, "cuModuleGetFunction");
  std::lock_guard lock(mutex_);
  apply(function);
  num_params_.store(count_params(function), std::memory_order_relaxed);
  functions_[device_slot(device)].store(function, std::memory_order_release);
  return function;
}

// The caller holds mutex_.
void Function::apply(CUfunction function) const {
  if (dynamic_shared_bytes_ > kDefaultSharedBytes) {
    GXU_DRIVER(cuFuncSetCacheConfig, function, CU_FUNC_CACHE_PREFER_SHARED);
  }
  if (dynamic_shared_bytes_ != 0) {
    GXU_DRIVER(cuFuncSetAttribute, function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic_shared_bytes_);
  }
  if (cluster_width_ > kPortableClusterWidth) {
    GXU_DRIVER(cuFuncSetAttribute, function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1);
  }
}

void Function::set_attribute(gxuFunctionAttribute attribute, int value, Device& device) {
  const CUfunction own = on(device);
  std::lock_guard lock(mutex_);
  const Attributes before = attributes();
  switch (static_cast<int>(attribute)) {
    case gxuFuncAttributeMaxDynamicSharedMemorySize: {
      const uint64_t all = device.properties().shared_memory_per_block;
      const int fixed = read_attribute(own, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
      if (value < 0 || static_cast<uint64_t>(value) + static_cast<uint64_t>(fixed) > all) {
        fail(gxuErrorInvalidValue,
             "%d bytes of shared memory for kernel '%s': a block has %llu, of which the kernel takes %d by itself",
             value, name_, static_cast<unsigned long long>(all), fixed);
      }
      dynamic_shared_bytes_ = value;
      break;
    }
    case gxuFuncAttributeRequiredClusterWidth:
      if (value < 1) fail(gxuErrorInvalidValue, "gxuFuncSetAttribute: a cluster has at least 1 block, not %d", value);
      cluster_width_ = value;
      break;
    case gxuFuncAttributeCooperative:
      require_flag("gxuFuncAttributeCooperative", value);
      cooperative_ = value != 0;
      break;
    case gxuFuncAttributeProgrammaticStreamSerialization:
      require_flag("gxuFuncAttributeProgrammaticStreamSerialization", value);
      programmatic_serialization_ = value != 0;
      break;
    default:
      fail(gxuErrorInvalidValue, "gxuFuncSetAttribute: the attribute %d is unknown or cannot be set",
           static_cast<int>(attribute));
  }
  try {
    for (const std::atomic<CUfunction>& function : functions_) {
      if (const CUfunction found = function.load(std::memory_order_acquire)) apply(found);
    }
  } catch (const Error&) {  // a failing call changes nothing
    dynamic_shared_bytes_ = before.dynamic_shared_bytes;
    cluster_width_ = before.cluster_width;
    cooperative_ = before.cooperative;
    programmatic_serialization_ = before.programmatic_serialization;
    throw;
  }
  has_launch_attributes_ = cluster_width_ != 1 || cooperative_ || programmatic_serialization_;
}

unsigned int Function::launch_attributes(CUlaunchAttribute* attributes) const {
  unsigned int count = 0;
  auto add = [&](CUlaunchAttributeID id) -> CUlaunchAttributeValue& {
    attributes[count] = {};
    attributes[count].id = id;
    return attributes[count++].value;
  };
  if (cooperative_) add(CU_LAUNCH_ATTRIBUTE_COOPERATIVE).cooperative = 1;
  if (programmatic_serialization_) {
    add(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION).programmaticStreamSerializationAllowed = 1;
  }
  if (const int width = cluster_width_; width != 1) {
    add(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION).clusterDim = {static_cast<unsigned int>(width), 1, 1};
    add(CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE).clusterSchedulingPolicyPreference =
        CU_CLUSTER_SCHEDULING_POLICY_SPREAD;
  }
  return count;
}

void publish(Function& function) { function.handle = function_handles().insert(&function); }

void withdraw(Function& function) { function_handles().remove(function.handle); }

Function& resolve_function(gxuFunction_t handle) { return function_handles().get(handle); }

}  // namespace gxu::cuda

using namespace gxu::cuda;

gxuError_t gxuFuncSetAttribute(gxuFunction_t function, gxuFunctionAttribute attribute, int value) {
  return api([&] {
    Function& found = resolve_function(function);
    Device& device = current_device();
    const ContextScope scope(device);
    found.set_attribute(attribute, value, device);
  });
}

gxuError_t gxuFuncGetAttribute(int* value, gxuFunctionAttribute attribute, gxuFunction_t function) {
  return api([&] {
    require_argument(value, "value");
    Function& found = resolve_function(function);
    switch (static_cast<int>(attribute)) {
      case gxuFuncAttributeMaxThreadsPerBlock:
      case gxuFuncAttributeSharedSizeBytes:
      case gxuFuncAttributeLocalSizeBytes:
      case gxuFuncAttributeNumRegs:
      case gxuFuncAttributeMaxDynamicSharedMemorySize:
        break;
      default:
        fail(gxuErrorInvalidValue, "gxuFuncGetAttribute: the attribute %d is unknown or cannot be read",
             static_cast<int>(attribute));
    }
    Device& device = current_device();
    const ContextScope scope(device);
    // Those that can be read have the driver's own numbers.
    *value = read_attribute(found.on(device), static_cast<CUfunction_attribute>(attribute));
  });
}
