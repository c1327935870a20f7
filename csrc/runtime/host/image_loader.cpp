#include "image_loader.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "elf_image.h"
#include "error.h"

namespace gxu::host {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

// A path to an open descriptor that was never used before. The loader takes two equal paths for one library without
// looking at the file, and both descriptor numbers and file names come back with other contents. "/" and "./" between
// two path components mean the same to the system but not to the loader: they spell a running number, after an address
// that no other copy of this engine in the process has.
std::string unique_path(int descriptor) {
  static std::atomic<uint64_t> counter{0};
  constexpr int kAddressBits = 64;
  std::string path = "/proc/self/fd/";
  auto spell = [&](uint64_t digit) { path += (digit & 1) != 0 ? "./" : "/"; };
  const auto address = reinterpret_cast<uintptr_t>(&counter);
  for (int bit = 0; bit < kAddressBits; ++bit) spell(address >> bit);
  for (uint64_t number = counter.fetch_add(1) + 1; number != 0; number >>= 1) spell(number);
  return path + std::to_string(descriptor);
}

// Kernel images name functions of libm, and of libgcc where the CPU lacks an instruction (half precision), without
// saying where they are: a program that links neither must still find them.
void offer_support_libraries() {
  static const bool offered = [] {
    for (const char* library : {"libm.so.6", "libgcc_s.so.1"}) dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    return true;
  }();
  (void)offered;
}

void* open_descriptor(int descriptor, const char* name) {
  offer_support_libraries();
  void* library = dlopen(unique_path(descriptor).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    fail(gxuErrorInvalidImage, "%s cannot be loaded: %s", name, reason != nullptr ? reason : "unknown reason");
  }
  return library;
}

void write_all(int descriptor, const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(descriptor, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(gxuErrorOutOfMemory, "cannot keep a kernel image of %zu more bytes: %s", size, std::strerror(errno));
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

// An unnamed file in memory or, where the system has none, an unlinked private one.
int create_unnamed_file() {
  const int memory = memfd_create("gxu_kernel_image", MFD_CLOEXEC);
  if (memory >= 0) return memory;
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/gxu_kernel_image_XXXXXX";
  const int file = mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) fail(gxuErrorOutOfMemory, "cannot create a file for a kernel image: %s", std::strerror(errno));
  unlink(path.c_str());
  return file;
}

void check_file(int descriptor, const char* name) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    fail(gxuErrorInvalidImage, "%s is not a regular file", name);
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) fail(gxuErrorInvalidImage, "%s is empty", name);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapped == MAP_FAILED) fail(gxuErrorFileNotFound, "%s cannot be read: %s", name, std::strerror(errno));
  try {
    check_elf_image(mapped, size, name);
  } catch (...) {
    munmap(mapped, size);
    throw;
  }
  munmap(mapped, size);
}

}  // namespace

void* load_image_file(const char* file_name) {
  const FileDescriptor file(open(file_name, O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    fail(gxuErrorFileNotFound, "cannot open the kernel image '%s': %s", file_name, std::strerror(errno));
  }
  check_file(file.get(), file_name);
  return open_descriptor(file.get(), file_name);
}

void* load_image_data(const void* image, size_t size) {
  check_elf_image(image, size, "the image in memory");
  const FileDescriptor file(create_unnamed_file());
  write_all(file.get(), image, size);
  return open_descriptor(file.get(), "the image in memory");
}

}  // namespace gxu::host
