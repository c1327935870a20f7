"""The one error of the compiler: what it cannot compile, where that stands, and what to do."""

from __future__ import annotations

from .ir.module import Location


class UnsupportedError(Exception):
    """A kernel uses something that the gxu Triton backend cannot compile.

    The message is one sentence that names the operation, the kernel and the source line. It has a single string
    argument, so that it travels between compile workers.
    """

    @classmethod
    def at(cls, what: str, location: Location, remedy: str = "") -> UnsupportedError:
        message = f"the gxu Triton backend does not support {what}, at {location}"
        return cls(f"{message}; {remedy}" if remedy else message)

    def in_kernel(self, kernel: str) -> UnsupportedError:
        return type(self)(f"kernel {kernel}: {self}")
