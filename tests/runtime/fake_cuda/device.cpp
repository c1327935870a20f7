// Devices, contexts and memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "fake.h"

namespace gxu::cuda {
namespace {

constexpr size_t kPageBytes = 4096;

struct Block {
  size_t size;
  int device;
  int file;  // of device memory; -1: pinned host memory
  bool imported;
};

struct Memory {
  std::mutex mutex;
  std::map<uintptr_t, Block> blocks;
  std::map<int, size_t> used;
};

Memory& memory() {
  static auto* instance = new Memory;
  return *instance;
}

size_t number(const char* variable, size_t fallback) {
  const char* text = std::getenv(variable);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

size_t memory_of_device() {
  static const size_t bytes = number("FAKE_CUDA_MEMORY", size_t{64} << 20);
  return bytes;
}

size_t round_up(size_t size) { return (size + kPageBytes - 1) / kPageBytes * kPageBytes; }

// The block that holds the address; the caller holds the lock.
std::map<uintptr_t, Block>::iterator find_block(Memory& all, uintptr_t address) {
  auto next = all.blocks.upper_bound(address);
  if (next == all.blocks.begin()) return all.blocks.end();
  --next;
  return address - next->first < next->second.size ? next : all.blocks.end();
}

struct IpcHandle {
  int process;
  int file;
  size_t size;
};

void* map_file(int file, size_t size) {
  void* mapped = mmap(nullptr, round_up(size), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

}  // namespace

int device_total() {
  static const int total = static_cast<int>(number("FAKE_CUDA_DEVICES", 2));
  return total;
}

CUctx_st* primary_context(int device) {
  static auto* mutex = new std::mutex;
  static auto* contexts = new std::map<int, CUctx_st*>;
  std::lock_guard lock(*mutex);
  CUctx_st*& context = (*contexts)[device];
  if (context == nullptr) {
    context = new CUctx_st;
    context->device = device;
    context->default_stream = make_stream(context, true);
  }
  return context;
}

}  // namespace gxu::cuda

CUresult cuDeviceGetCount(int* count) {
  FAKE_ENTER(enter)
  *count = device_total();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  FAKE_ENTER(enter)
  if (ordinal < 0 || ordinal >= device_total()) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  FAKE_ENTER(enter)
  std::snprintf(name, static_cast<size_t>(length), "Stand-in H100 %d", device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  FAKE_ENTER(enter)
  for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<char>(0xf0 + i);
  uuid->bytes[15] = static_cast<char>(device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  FAKE_ENTER(enter)
  *bytes = memory_of_device();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  FAKE_ENTER(enter)
  // An H100's.
  static const std::map<int, int> values = {
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 52428800},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
  };
  const auto found = values.find(attribute);
  if (found == values.end()) return CUDA_ERROR_INVALID_VALUE;
  *value = found->second;
  return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can_access, CUdevice device, CUdevice peer) {
  FAKE_ENTER(enter)
  *can_access = device != peer ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  FAKE_ENTER(enter)
  *context = primary_context(device);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  FAKE_ENTER(enter)
  *context = current_context;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  FAKE_ENTER(enter)
  current_context = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int) {
  FAKE_ENTER(enter_context)
  std::lock_guard lock(current_context->mutex);
  return current_context->peers.insert(peer).second ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t size) {
  FAKE_ENTER(enter_context)
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const int device = current_context->device;
  if (size > memory_of_device() || round_up(size) > memory_of_device() - all.used[device]) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  const int file = memfd_create("fake_cuda", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(round_up(size))) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  void* block = map_file(file, size);
  if (block == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  all.used[device] += round_up(size);
  *pointer = reinterpret_cast<CUdeviceptr>(block);
  all.blocks[*pointer] = {size, device, file, false};
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = all.blocks.find(pointer);
  if (found == all.blocks.end() || found->second.file < 0 || found->second.imported) return CUDA_ERROR_INVALID_VALUE;
  all.used[found->second.device] -= round_up(found->second.size);
  munmap(reinterpret_cast<void*>(pointer), round_up(found->second.size));
  close(found->second.file);
  all.blocks.erase(found);
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void** pointer, size_t size, unsigned int) {
  FAKE_ENTER(enter_context)
  if (size > SIZE_MAX - kPageBytes) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = std::aligned_alloc(kPageBytes, round_up(size));
  if (*pointer == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  all.blocks[reinterpret_cast<uintptr_t>(*pointer)] = {size, current_context->device, -1, false};
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* pointer) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = all.blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == all.blocks.end() || found->second.file >= 0) return CUDA_ERROR_INVALID_VALUE;
  all.blocks.erase(found);
  std::free(pointer);
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  *total = memory_of_device();
  *free = *total - all.used[current_context->device];
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr pointer) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = find_block(all, pointer);
  if (found == all.blocks.end()) return CUDA_ERROR_NOT_FOUND;
  *base = found->first;
  *size = found->second.size;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  FAKE_ENTER(enter_context)
  if (attribute != CU_POINTER_ATTRIBUTE_MEMORY_TYPE) return CUDA_ERROR_NOT_SUPPORTED;
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = find_block(all, pointer);
  if (found == all.blocks.end()) return CUDA_ERROR_INVALID_VALUE;
  *static_cast<unsigned int*>(data) = found->second.file < 0 ? 1 : 2;
  return CUDA_SUCCESS;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr pointer) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = all.blocks.find(pointer);
  if (found == all.blocks.end() || found->second.file < 0) return CUDA_ERROR_INVALID_VALUE;
  const IpcHandle made{getpid(), found->second.file, found->second.size};
  std::memset(handle, 0, sizeof(*handle));
  std::memcpy(handle, &made, sizeof(made));
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pointer, CUipcMemHandle handle, unsigned int) {
  FAKE_ENTER(enter_context)
  IpcHandle wanted;
  std::memcpy(&wanted, &handle, sizeof(wanted));
  if (wanted.process == getpid()) return CUDA_ERROR_INVALID_CONTEXT;
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/fd/%d", wanted.process, wanted.file);
  const int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return CUDA_ERROR_INVALID_HANDLE;
  void* block = map_file(file, wanted.size);
  if (block == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  *pointer = reinterpret_cast<CUdeviceptr>(block);
  all.blocks[*pointer] = {wanted.size, current_context->device, file, true};
  return CUDA_SUCCESS;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
  FAKE_ENTER(enter_context)
  Memory& all = memory();
  std::lock_guard lock(all.mutex);
  const auto found = all.blocks.find(pointer);
  if (found == all.blocks.end() || !found->second.imported) return CUDA_ERROR_INVALID_VALUE;
  munmap(reinterpret_cast<void*>(pointer), round_up(found->second.size));
  close(found->second.file);
  all.blocks.erase(found);
  return CUDA_SUCCESS;
}
