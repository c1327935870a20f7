"""A kernel image carries its checksum, so that a damaged file of the kernel cache is an error and not a crash."""

from __future__ import annotations

import zlib

# Behind the last byte of the ELF file, where loaders do not look: this mark, then the CRC-32 of what stands before it.
_MARK = b"gxu-crc32"
_SIZE = len(_MARK) + 4


def seal(image: bytes) -> bytes:
    """The image with its checksum."""
    return image + _MARK + zlib.crc32(image).to_bytes(4, "little")


def is_sealed(image: bytes) -> bool:
    """Whether these bytes are an image of gxu's, damaged or not."""
    return image[-_SIZE:-4] == _MARK


def check(image: bytes, name: str) -> None:
    """Raises RuntimeError unless the image of kernel ``name`` is as it was sealed."""
    content, mark, checksum = image[:-_SIZE], image[-_SIZE:-4], image[-4:]
    if mark != _MARK or zlib.crc32(content).to_bytes(4, "little") != checksum:
        raise RuntimeError(
            f"the image of kernel {name} ({len(image)} bytes) is damaged; delete the Triton cache (TRITON_CACHE_DIR, "
            "~/.triton/cache by default) or set TRITON_ALWAYS_COMPILE=1"
        )
