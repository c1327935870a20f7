"""The device that Triton's benchmark kernels run on."""

from __future__ import annotations

import os

from gxu._name import DEVICE_TYPE

#: gxu; another one in the processes that measure what gxu is compared with (gxu.benchmarks.versus).
DEVICE = os.environ.get("GXU_BENCH_DEVICE", DEVICE_TYPE)
