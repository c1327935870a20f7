// A check that a file is a whole shared object for this machine, before the dynamic loader trusts it.
#pragma once

#include <cstddef>

namespace gxu::host {

// Throws gxuErrorInvalidImage, naming `name`, when the bytes are not a 64-bit ELF shared object for this CPU or are cut
// off: the loader maps segments without looking at the file's size, and a missing page would end the process.
void check_elf_image(const void* image, size_t size, const char* name);

}  // namespace gxu::host
