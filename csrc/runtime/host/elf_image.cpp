#include "elf_image.h"

#include <elf.h>

#include <cstdint>
#include <cstring>

#include "error.h"

namespace gxu::host {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "the host engine does not know this CPU's ELF machine number"
#endif

}  // namespace

void check_elf_image(const void* image, size_t size, const char* name) {
  const char* bytes = static_cast<const char*>(image);
  Elf64_Ehdr header;
  if (size < sizeof(header) || std::memcmp(bytes, ELFMAG, SELFMAG) != 0) {
    fail(gxuErrorInvalidImage, "%s is not an ELF shared object (%zu bytes)", name, size);
  }
  std::memcpy(&header, bytes, sizeof(header));
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != kMachine) {
    fail(gxuErrorInvalidImage, "%s is for ELF machine %u, class %u: this CPU wants machine %u, class %u", name,
         header.e_machine, header.e_ident[EI_CLASS], kMachine, ELFCLASS64);
  }
  if (header.e_type != ET_DYN) {
    fail(gxuErrorInvalidImage, "%s has ELF type %u: want a shared object (%u), as `cc -shared` makes", name,
         header.e_type, ET_DYN);
  }
  const uint64_t table_bytes = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phoff > size || table_bytes > size - header.e_phoff) {
    fail(gxuErrorInvalidImage, "%s is damaged or cut off: its program headers leave its %zu bytes", name, size);
  }
  for (uint16_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
    if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
    if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset) {
      fail(gxuErrorInvalidImage, "%s is damaged or cut off: segment %u needs %llu bytes at offset %llu of %zu", name, i,
           static_cast<unsigned long long>(segment.p_filesz), static_cast<unsigned long long>(segment.p_offset), size);
    }
  }
}

}  // namespace gxu::host
