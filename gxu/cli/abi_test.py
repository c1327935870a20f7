"""The console command `gxu-abi-test`: runs the program of that name, which csrc/abi_test builds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
PROGRAM = PACKAGE / "bin/gxu-abi-test"


def main() -> int:
    """Becomes the program. Without arguments it checks the bundled host engine. Returns 2 where it was not built."""
    if PROGRAM.exists():
        arguments = sys.argv[1:] or [str(PACKAGE / "lib/libgxu_runtime_host.so")]
        os.execv(PROGRAM, [PROGRAM.name, *arguments])
    print("gxu-abi-test was not built, as boost-headers was missing: install that and build gxu again", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
