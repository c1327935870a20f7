# ruff: noqa: E402  (the order of the imports matters here)
"""The smallest complete Inductor backend of a device of its own: `import mini_backend`, then torch.compile on "mini".

Four things make a backend: a device interface (Dynamo), a scheduling (kernels), a wrapper (the code around them) and
device op overrides (the snippets that the wrapper prints). Eager tensors, and the runtime below, are gxu's extension
`gxu._C`, which serves PrivateUse1 under any name; the Triton compiler is gxu's too (mini_triton.py).
"""

import os
import sys
import time
from types import SimpleNamespace

os.environ["GXU_REGISTER"] = "0"  # gxu's own integration stays out: PrivateUse1 has one name a process

import torch
import torch.utils._triton

from gxu import _C

# 1. The name of the device, and its module `torch.mini`: this file.
torch.utils.rename_privateuse1_backend("mini")
torch._register_device_module("mini", sys.modules[__name__])

# The one patch. Inductor asks it before it makes Triton code for a GPU, and it knows a fixed list of devices
# (pytorch#189138). Everything that imports it by name must come later.
torch.utils._triton.has_triton = lambda: True

import mini_triton
from torch._dynamo import device_interface
from torch._inductor import utils
from torch._inductor.codegen import common
from torch._inductor.codegen.triton import TritonKernel, TritonScheduling
from torch._inductor.codegen.wrapper import PythonWrapperCodegen, SubgraphPythonWrapperCodegen
from torch._inductor.runtime import benchmarking
from torch._inductor.scheduler import BaseScheduling

# 2. What PyTorch asks of a device module.
current_device, device_count, synchronize = _C.current_device, _C.device_count, _C.synchronize


def is_available():
    return device_count() > 0


def is_initialized():
    return _C.is_initialized()


def _is_in_bad_fork():
    return _C.is_in_bad_fork()


def manual_seed_all(seed):
    for index in range(device_count()):
        _C.default_generator(index).manual_seed(seed)


# 3. What Dynamo and Inductor ask of a device.
class device:  # noqa: N801
    """Context manager: the device `index` is current inside of it."""

    def __init__(self, index):
        self.index = index if isinstance(index, int) else torch.device(index).index

    def __enter__(self):
        self.previous = MiniInterface.exchange_device(self.index)

    def __exit__(self, *_):
        MiniInterface.maybe_exchange_device(self.previous)


class Event(torch.Event):
    """A position in the device's work. Everything before it is done when `record` returns, so the host's clock tells
    the time; torch.Event as a base class lets Dynamo trace it."""

    def __new__(cls, enable_timing=False, **_):
        return super().__new__(cls, device="mini")

    def record(self, stream=None):
        synchronize()
        self.seconds = time.perf_counter()

    def elapsed_time(self, end):
        return (end.seconds - self.seconds) * 1e3


class MiniInterface(device_interface.DeviceInterface):
    device, Event, Stream = device, Event, torch.Stream

    class Worker:  # the same questions in compile workers, which must not start the device
        current = 0

        @staticmethod
        def set_device(index):
            MiniInterface.Worker.current = index

        @staticmethod
        def current_device():
            return MiniInterface.Worker.current

        @staticmethod
        def get_device_properties(_=None):
            return SimpleNamespace(
                multi_processor_count=8,
                warp_size=mini_triton.WARP_SIZE,
                regs_per_multiprocessor=65536,
                max_threads_per_multi_processor=1024,
                max_threads_per_block=1024,
            )

    @staticmethod
    def exchange_device(index):
        """Makes `index` current and returns the one before."""
        if not 0 <= index < device_count():
            raise RuntimeError(f"mini:{index} does not exist: there are {device_count()} device(s)")
        return _C.exchange_device(index)

    @staticmethod
    def maybe_exchange_device(index):
        """The same, but a negative index changes nothing."""
        return current_device() if index < 0 else MiniInterface.exchange_device(index)

    set_device = exchange_device
    current_device, device_count = staticmethod(current_device), staticmethod(device_count)
    synchronize, is_available = staticmethod(lambda _=None: synchronize()), staticmethod(is_available)
    get_raw_stream = staticmethod(_C.get_raw_stream)
    get_compute_capability = staticmethod(lambda _=None: mini_triton.ARCHITECTURE)
    is_bf16_supported = is_triton_capable = staticmethod(lambda *_, **__: True)


def benchmark(_benchmarker, function, *, warmup, rep, **_):
    """Milliseconds of a call: how Inductor chooses among block sizes."""
    function()
    samples = []
    for _ in range(5):
        start, end = Event(enable_timing=True), Event(enable_timing=True)
        start.record()
        function()
        end.record()
        samples.append(start.elapsed_time(end))
    return sorted(samples)[2]


# 4. How kernels are made: Inductor's Triton code, with one import more.
class MiniKernel(TritonKernel):
    @classmethod
    def gen_common_triton_imports(cls):
        return super().gen_common_triton_imports() + "\nimport mini_triton\n"


class MiniScheduling(BaseScheduling):
    """Delegates to TritonScheduling. A backend with a language of its own writes its code in `codegen_node`."""

    def __init__(self, scheduler):
        super().__init__(scheduler)
        self.triton = TritonScheduling(scheduler)
        self.triton.kernel_type = MiniKernel
        for name in (
            "get_backend_features can_fuse_vertical can_fuse_horizontal fuse group_fn codegen_template codegen_node "
            "codegen_sync flush generate_kernel_code_from_nodes benchmark_fused_nodes benchmark_codegened_module "
            "codegen_comment get_fusion_pair_priority ready_to_flush"
        ).split():
            setattr(self, name, getattr(self.triton, name))


# 5. The code around the kernels: torch's. `create` must return this class, or what it overrides is ignored.
class MiniWrapper(PythonWrapperCodegen):
    @staticmethod
    def create(is_subgraph, subgraph_name, parent_wrapper, partition_signatures=None):
        if is_subgraph:
            return SubgraphPythonWrapperCodegen(subgraph_name, parent_wrapper, partition_signatures)
        return MiniWrapper()

    def write_header(self):
        super().write_header()
        self.header.splice("# Generated for the device mini")


# 6. The snippets that it prints.
class MiniDeviceOpOverrides(common.DeviceOpOverrides):
    def import_get_raw_stream_as(self, name):
        return f"from gxu._C import get_raw_stream as {name}"

    def device_guard(self, index):
        return f"torch.mini.device({index})"

    def set_device(self, index):
        return f"torch.mini.MiniInterface.set_device({index})"

    def synchronize(self):
        return "torch.mini.synchronize()"


# 7. Registration, before anything is compiled.
device_interface.register_interface_for_device("mini", MiniInterface)
device_interface.register_interface_for_device("mini:0", MiniInterface)
common.register_device_op_overrides("mini", MiniDeviceOpOverrides())
common.register_backend_for_device("mini", MiniScheduling, MiniWrapper)
if hasattr(benchmarking, "register_benchmarker"):  # torch 2.11 has none: what it would measure there is not tuned
    benchmarking.register_benchmarker("mini", benchmark)
utils.GPU_TYPES.append("mini")  # who gets device guards and assumptions about alignment
