// Kernel images and launches.
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fake.h"

namespace gxu::cuda {
namespace {

constexpr int kDefaultSharedBytes = 48 << 10;
constexpr uint16_t kCudaMachine = 190;  // EM_CUDA

thread_local CUctx_st* kernel_context = nullptr;

void fail_kernel(int result) { kernel_context->sticky = static_cast<CUresult>(result); }

// Sizes of a cubin kernel's parameters, from its section of notes: entries of a format, a number, and 2 or more bytes.
std::vector<uint32_t> read_param_sizes(const char* notes, size_t size) {
  constexpr uint8_t kSizedFormat = 4, kParamInfo = 0x17;
  std::map<uint16_t, uint32_t> sizes;  // by position
  for (size_t at = 0; at + 4 <= size;) {
    const uint8_t format = static_cast<uint8_t>(notes[at]), number = static_cast<uint8_t>(notes[at + 1]);
    uint16_t length = 0;
    std::memcpy(&length, notes + at + 2, 2);
    if (format == kSizedFormat && number == kParamInfo && length >= 12) {
      uint16_t position;
      uint32_t bits;
      std::memcpy(&position, notes + at + 4 + 4, 2);
      std::memcpy(&bits, notes + at + 4 + 8, 4);
      sizes[position] = bits >> 18;
    }
    at += format == kSizedFormat ? 4u + length : 4u;
  }
  std::vector<uint32_t> ordered;
  for (const auto& [position, bytes] : sizes) ordered.push_back(bytes);
  return ordered;
}

void read_cubin(const char* bytes, CUmod_st& module) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes, sizeof(header));
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  std::memcpy(sections.data(), bytes + header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr));
  const char* names = bytes + sections[header.e_shstrndx].sh_offset;
  for (const Elf64_Shdr& section : sections) {
    const std::string name = names + section.sh_name;
    if (name.starts_with(".text.")) module.cubin_kernels[name.substr(6)].name = name.substr(6);
    if (name.starts_with(".nv.info.")) {
      module.cubin_kernels[name.substr(9)].param_sizes = read_param_sizes(bytes + section.sh_offset, section.sh_size);
    }
  }
}

size_t size_of_elf(const char* bytes) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes, sizeof(header));
  size_t end = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, bytes + header.e_shoff + static_cast<size_t>(i) * sizeof(section), sizeof(section));
    if (section.sh_type != SHT_NOBITS) end = std::max(end, section.sh_offset + section.sh_size);
  }
  return end;
}

void* load_host_object(const char* bytes) {
  const int file = memfd_create("fake_cuda_image", MFD_CLOEXEC);
  const size_t size = size_of_elf(bytes);
  void* library = nullptr;
  if (write(file, bytes, size) == static_cast<ssize_t>(size)) {
    library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  close(file);
  return library;
}

bool find_kernel(CUmod_st& module, const char* name, Kernel& kernel) {
  if (module.library == nullptr) {
    const auto found = module.cubin_kernels.find(name);
    if (found == module.cubin_kernels.end()) return false;
    kernel = found->second;
    return true;
  }
  kernel.name = name;
  kernel.run = reinterpret_cast<decltype(kernel.run)>(dlsym(module.library, name));
  const auto* sizes = static_cast<const uint32_t*>(dlsym(module.library, (kernel.name + "_params").c_str()));
  if (kernel.run == nullptr || sizes == nullptr) return false;
  for (; *sizes != 0; ++sizes) kernel.param_sizes.push_back(*sizes);
  return true;
}

int attribute_of(const CUfunc_st& function, CUfunction_attribute attribute) {
  const auto found = function.attributes.find(attribute);
  return found != function.attributes.end() ? found->second : 0;
}

CUresult launch(const CUlaunchConfig& config, CUfunc_st& function, void** params) {
  FakeCudaLaunch record{};
  std::snprintf(record.name, sizeof(record.name), "%s", function.kernel.name.c_str());
  record.cluster_width = 1;
  for (unsigned int i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE) record.cooperative = 1;
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) record.programmatic_serialization = 1;
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) record.cluster_width = attribute.value.clusterDim.x;
  }
  const int shared =
      std::max(kDefaultSharedBytes, attribute_of(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES));
  const bool large_cluster = attribute_of(function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED) != 0;
  const uint64_t threads = uint64_t{config.blockDimX} * config.blockDimY * config.blockDimZ;
  if (threads == 0 || threads > 1024 || config.gridDimX == 0 || config.gridDimY == 0 || config.gridDimZ == 0 ||
      config.sharedMemBytes > static_cast<unsigned int>(shared) || config.gridDimX % record.cluster_width != 0 ||
      record.cluster_width > (large_cluster ? 16u : 8u)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const unsigned int grid[] = {config.gridDimX, config.gridDimY, config.gridDimZ};
  const unsigned int block[] = {config.blockDimX, config.blockDimY, config.blockDimZ};
  std::copy_n(grid, 3, record.grid);
  std::copy_n(block, 3, record.block);
  record.shared_memory_bytes = config.sharedMemBytes;
  record.device = function.module->context->device;
  const std::vector<uint32_t>& sizes = function.kernel.param_sizes;
  record.num_params = static_cast<uint32_t>(sizes.size());
  if (sizes.size() > FAKE_CUDA_MAX_PARAMS) return CUDA_ERROR_NOT_SUPPORTED;
  for (size_t i = 0; i < sizes.size(); ++i) {
    record.param_sizes[i] = sizes[i];
    std::memcpy(&record.params[i], params[i], std::min<size_t>(sizes[i], 8));
  }
  record.fail = &fail_kernel;
  return enqueue(*resolve(config.hStream), [record, run = function.kernel.run](CUctx_st* context) {
    if (context->sticky != CUDA_SUCCESS) return;
    if (run != nullptr) {
      FakeCudaLaunch copy = record;
      void* addresses[FAKE_CUDA_MAX_PARAMS];
      for (uint32_t i = 0; i < record.num_params; ++i) addresses[i] = &copy.params[i];
      kernel_context = context;
      run(&copy, addresses);
    }
    write_launch(record);
  });
}

}  // namespace
}  // namespace gxu::cuda

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  FAKE_ENTER(enter_context)
  const char* bytes = static_cast<const char*>(image);
  if (std::memcmp(bytes, ELFMAG, SELFMAG) != 0) return CUDA_ERROR_INVALID_IMAGE;
  Elf64_Ehdr header;
  std::memcpy(&header, bytes, sizeof(header));
  auto loaded = std::make_unique<CUmod_st>();
  loaded->context = current_context;
  if (header.e_machine == kCudaMachine) {
    read_cubin(bytes, *loaded);
  } else {
    loaded->library = load_host_object(bytes);
    if (loaded->library == nullptr) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  *module = loaded.release();
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
  FAKE_ENTER(enter_context)
  if (module->library != nullptr) dlclose(module->library);
  delete module;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  FAKE_ENTER(enter_context)
  std::lock_guard lock(module->mutex);
  std::unique_ptr<CUfunc_st>& found = module->functions[name];
  if (found == nullptr) {
    auto made = std::make_unique<CUfunc_st>();
    made->module = module;
    if (!find_kernel(*module, name, made->kernel)) return CUDA_ERROR_NOT_FOUND;
    found = std::move(made);
  }
  *function = found.get();
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  FAKE_ENTER(enter_context)
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = 1024;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = function->kernel.static_shared;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = 40;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = std::max(kDefaultSharedBytes, attribute_of(*function, attribute));
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  FAKE_ENTER(enter_context)
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value > 232448) return CUDA_ERROR_INVALID_VALUE;
  function->attributes[attribute] = value;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) {
  FAKE_ENTER(enter_context)
  return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* size) {
  FAKE_ENTER(enter)
  if (index >= function->kernel.param_sizes.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = 8 * index;
  *size = function->kernel.param_sizes[index];
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                        unsigned int block_x, unsigned int block_y, unsigned int block_z,
                        unsigned int shared_memory_bytes, CUstream stream, void** params, void**) {
  FAKE_ENTER(enter_context)
  const CUlaunchConfig config{grid_x, grid_y,  grid_z, block_x, block_y, block_z, shared_memory_bytes,
                              stream, nullptr, 0};
  return launch(config, *function, params);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** params, void**) {
  FAKE_ENTER(enter_context)
  return launch(*config, *function, params);
}
