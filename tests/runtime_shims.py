"""Runtime libraries made for one test: the host engine with some functions replaced, or no runtime at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gxu

PACKAGE = Path(gxu.__file__).parent
HOST_ENGINE = PACKAGE / "lib" / "libgxu_runtime_host.so"
HEADER_FOLDER = PACKAGE / "include"

#: Says that no other device reaches the device's memory. It needs the real function, which it finds by name in the host
#: engine, its dependency.
NO_DELEGATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include "gxu_runtime.h"
gxuError_t gxuGetDeviceProperties(gxuDeviceProperties *properties, int device) {
  gxuError_t (*next)(gxuDeviceProperties *, int) = dlsym(RTLD_NEXT, "gxuGetDeviceProperties");
  if (!next) next = dlsym(dlopen("libgxu_runtime_host.so", RTLD_NOW | RTLD_NOLOAD), "gxuGetDeviceProperties");
  gxuError_t error = next(properties, device);
  properties->delegate[0] = 0;
  properties->host_accessible = 0;
  return error;
}
"""

#: Says that PyTorch's cuda device runs the device's operators (tests/cpp/cuda_in_torch.cpp stands in for it). Streams
#: are their own native ones.
CUDA_DELEGATE = NO_DELEGATE.replace("properties->delegate[0] = 0;", 'strcpy(properties->delegate, "cuda");').replace(
    '#include "gxu_runtime.h"',
    """#include <string.h>
#include "gxu_native.h"
gxuError_t gxuStreamGetNative(void **native, gxuStream_t stream) { *native = stream; return 0; }""",
)


def version_only(version: int) -> str:
    """Source of a library that knows its version and nothing else."""
    return f"int gxuGetVersion(int *version) {{ *version = {version}; return 0; }}"


def build(folder: Path, source: str, *, on_host_engine: bool = False) -> Path:
    """Compiles C `source` to a library; with `on_host_engine` it inherits every function that it does not define."""
    code, library = folder / "shim.c", folder / "libgxu_runtime_shim.so"
    code.write_text(source)
    command = ["cc", "-shared", "-fPIC", f"-I{HEADER_FOLDER}", str(code), "-o", str(library), "-ldl"]
    if on_host_engine:
        command += ["-Wl,--no-as-needed", str(HOST_ENGINE), f"-Wl,-rpath,{HOST_ENGINE.parent}"]
    subprocess.run(command, check=True)
    return library
