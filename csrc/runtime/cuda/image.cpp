#include "image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "device.h"
#include "function.h"

namespace gxu::cuda {
namespace {

constexpr uint32_t kFatBinaryMagic = 0xba55ed50;

struct FatBinaryHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t header_size;
  uint64_t size;  // behind the header
};

[[noreturn]] void fail_truncated(const std::string& name, const char* kind, size_t size) {
  fail(gxuErrorInvalidImage, "%s is a %s that ends too early, after %zu bytes: write it again", name.c_str(), kind,
       size);
}

bool fits(uint64_t offset, uint64_t count, uint64_t size_of_one, size_t size) {
  return offset <= size && (size_of_one == 0 || count <= (size - offset) / size_of_one);
}

void check_elf(const std::string& bytes, const std::string& name) {
  const char* kind = "cubin";
  if (bytes.size() < sizeof(Elf64_Ehdr)) fail_truncated(name, kind, bytes.size());
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr))) {
    fail(gxuErrorInvalidImage, "%s is not a 64-bit cubin", name.c_str());
  }
  if (!fits(header.e_phoff, header.e_phnum, header.e_phentsize, bytes.size()) ||
      !fits(header.e_shoff, header.e_shnum, header.e_shentsize, bytes.size())) {
    fail_truncated(name, kind, bytes.size());
  }
  for (size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, bytes.data() + header.e_shoff + i * sizeof(section), sizeof(section));
    if (section.sh_type != SHT_NOBITS && !fits(section.sh_offset, section.sh_size, 1, bytes.size())) {
      fail_truncated(name, kind, bytes.size());
    }
  }
}

void check_fat_binary(const std::string& bytes, const std::string& name) {
  FatBinaryHeader header;
  if (bytes.size() < sizeof(header)) fail_truncated(name, "fat binary", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (!fits(header.header_size, header.size, 1, bytes.size())) fail_truncated(name, "fat binary", bytes.size());
}

}  // namespace

void check_image(const std::string& bytes, const std::string& name) {
  uint32_t magic = 0;
  std::memcpy(&magic, bytes.data(), std::min(sizeof(magic), bytes.size()));
  if (bytes.starts_with(ELFMAG)) {
    check_elf(bytes, name);
  } else if (magic == kFatBinaryMagic) {
    check_fat_binary(bytes, name);
  } else if (bytes.find(".version") == std::string::npos || bytes.find(".target") == std::string::npos) {
    fail(gxuErrorInvalidImage, "%s is neither a cubin nor a fat binary nor PTX", name.c_str());
  }
}

Image::Image(std::string bytes, std::string name) : bytes_(std::move(bytes)), name_(std::move(name)) {
  check_image(bytes_, name_);
  modules_.resize(static_cast<size_t>(device_count()));
}

Image::~Image() {
  for (size_t i = 0; i < modules_.size(); ++i) {
    if (modules_[i] == nullptr) continue;
    try {
      const ContextScope scope(device_at(static_cast<int>(i)));
      driver.cuModuleUnload(modules_[i]);
    } catch (const Error&) {
      // A context that a failed kernel has taken along has no modules either.
    }
  }
}

CUmodule Image::module(Device& device) {
  std::lock_guard lock(mutex_);
  CUmodule& module = modules_[static_cast<size_t>(device.index())];
  if (module == nullptr) {
    const CUresult result = driver.cuModuleLoadData(&module, bytes_.c_str());
    if (result != CUDA_SUCCESS) module = nullptr;
    if (result == CUDA_ERROR_NO_BINARY_FOR_GPU || result == CUDA_ERROR_INVALID_IMAGE) {
      fail(gxuErrorInvalidImage,
           "cuModuleLoadData: %s: %s does not run on device %d, whose compute capability is %d.%d",
           describe(result).c_str(), name_.c_str(), device.index(), device.properties().major,
           device.properties().minor);
    }
    check(result, "cuModuleLoadData");
  }
  return module;
}

Function& Image::find(const char* name, Device& device) {
  {
    std::lock_guard lock(mutex_);
    const auto known = functions_.find(std::string_view(name));
    if (known != functions_.end()) return *known->second;
  }
  auto function = std::make_unique<Function>(name, *this);
  function->on(device);
  std::lock_guard lock(mutex_);
  const auto [found, added] = functions_.emplace(name, std::move(function));
  if (added) publish(*found->second);
  return *found->second;
}

void Image::invalidate_handles() {
  std::lock_guard lock(mutex_);
  for (auto& [name, function] : functions_) withdraw(*function);
}

}  // namespace gxu::cuda
