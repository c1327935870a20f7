"""The device type, torch.gxu, and what importing the package does and does not do."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import threading

import pytest
import torch
from process_helpers import RunPython

import gxu

#: What a fresh process says about itself after `import torch`: the runtime and the compilers are not loaded.
UNTOUCHED = """
import sys
assert not torch.gxu.is_initialized()
assert "gxu_runtime" not in open("/proc/self/maps").read()
loaded = [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor", "triton", "llvmlite"))]
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    ("code", "autoload"),
    [
        ("import torch", "1"),
        ("import torch, gxu", "1"),
        ("import gxu, torch", "1"),
        ("import torch, gxu", "0"),
        ("import gxu, torch", "0"),
    ],
)
def test_import_registers_and_touches_nothing(run_python: RunPython, code: str, autoload: str) -> None:
    code += UNTOUCHED + "assert torch.ones(2, device='gxu').is_gxu and torch.gxu.is_initialized()"
    result = run_python("-c", code, env={"TORCH_DEVICE_BACKEND_AUTOLOAD": autoload})
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_autoload_can_be_turned_off(run_python: RunPython) -> None:
    result = run_python("-c", "import torch; print(hasattr(torch, 'gxu'))", env={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
    assert result.stdout.strip() == "False", result.stderr


def test_versions_agree() -> None:
    assert importlib.metadata.version("torch-gxu") == gxu.__version__
    first, end = gxu._version.SUPPORTED_TORCH
    requirements = importlib.metadata.requires("torch-gxu") or []
    assert f"torch<{end[0]}.{end[1]},>={first[0]}.{first[1]}" in [text.replace(" ", "") for text in requirements]
    assert torch.gxu._C.runtime_version() >= torch.gxu._C.ABI_VERSION


#: Names of torch.cuda that torch.gxu must have.
NAMES = """
is_available is_initialized init device_count current_device set_device device device_of synchronize
get_device_properties get_device_name get_device_capability get_arch_list can_device_access_peer Stream Event
ExternalStream stream current_stream default_stream set_stream memory_allocated max_memory_allocated
memory_reserved max_memory_reserved memory_stats mem_get_info empty_cache ipc_collect reset_peak_memory_stats
reset_accumulated_memory_stats manual_seed manual_seed_all seed seed_all initial_seed get_rng_state
get_rng_state_all set_rng_state set_rng_state_all default_generators is_bf16_supported OutOfMemoryError
_is_in_bad_fork _lazy_init
"""


def test_names_of_torch_cuda() -> None:
    names = NAMES.split()
    assert [name for name in names if not hasattr(torch.cuda, name)] == []
    assert [name for name in names if not hasattr(torch.gxu, name)] == []
    assert [name for name in torch.gxu.__all__ if not hasattr(torch.gxu, name)] == []
    with pytest.raises(AttributeError, match=r"module 'torch.gxu' has no attribute 'no_such_name'"):
        torch.gxu.no_such_name  # noqa: B018


#: What torch.gxu leaves out of torch.cuda, by reason.
ABSENT = {
    "NVIDIA's libraries and tools": """CudaError CUDAPluggableAllocator GreenContext caching_allocator_disabled
        caching_allocator_enable change_current_allocator check_error cudaStatus cudart current_blas_handle
        current_solver_handle gds get_gencode_flags green_contexts has_half has_magma jiterator nccl profiler tunable
        PYTORCH_RELEASES_CODE_CC DEVICE_REQUIREMENT Device""",
    "sensors that a gxu runtime does not have": "clock_rate memory_usage power_draw temperature utilization",
    "statistics of pinned memory and of waits that gxu does not keep": """host_memory_stats
        host_memory_stats_as_nested_dict reset_accumulated_host_memory_stats reset_peak_host_memory_stats
        get_sync_debug_mode set_sync_debug_mode""",
    "storages by data type, which PyTorch replaced by one class": """BFloat16Storage BoolStorage ByteStorage CharStorage
        ComplexDoubleStorage ComplexFloatStorage DoubleStorage FloatStorage HalfStorage IntStorage LongStorage
        ShortStorage sparse""",
    "not for users": "DeferredCudaCallError",
    "what the module imports": """Any Callable NewType Optional TYPE_CHECKING Union cast classproperty importlib
        lru_cache os platform traceback warnings threading torch""",
}


def test_nothing_else_of_torch_cuda_is_missing() -> None:
    public = {name for name in dir(torch.cuda) if not name.startswith("_")}
    assert public - set(dir(torch.gxu)) - set(" ".join(ABSENT.values()).split()) == set()


def test_submodules_are_imported_by_their_names() -> None:
    for name in ("amp", "graphs", "memory", "nvtx", "random", "streams"):
        assert importlib.import_module(f"torch.gxu.{name}") is getattr(torch.gxu, name)


def test_amp_with_the_names_of_torch_cuda() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        @torch.gxu.amp.custom_fwd(cast_inputs=torch.float32)
        def forward(context, x):
            assert not torch.is_autocast_enabled("gxu")
            return x * 2

        @staticmethod
        @torch.gxu.amp.custom_bwd
        def backward(context, gradient):
            return gradient * 2

    weight = torch.nn.Parameter(torch.ones(3, 3, device="gxu"))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.gxu.amp.GradScaler(init_scale=4.0)
    with torch.gxu.amp.autocast(dtype=torch.bfloat16):
        product = weight @ torch.ones(3, 1, device="gxu")
        assert product.dtype == torch.bfloat16
        loss = Double.apply(product).sum()
    assert loss.dtype == torch.float32
    scaler.scale(loss).backward()
    assert weight.grad is not None
    assert weight.grad.unique().tolist() == [8]
    scaler.step(optimizer)
    scaler.update()
    assert weight.unique().tolist() == [-1]
    with torch.gxu.amp.autocast(enabled=False):
        assert not torch.is_autocast_enabled("gxu")


def test_ranges_are_the_profilers() -> None:
    with torch.profiler.profile() as profiler:
        assert torch.gxu.nvtx.range_push("outer") == 0
        number = torch.gxu.nvtx.range_start("across")
        assert torch.gxu.nvtx.range_push("inner") == 1
        torch.gxu.nvtx.mark("here")
        assert torch.gxu.nvtx.range_pop() == 1
        assert torch.gxu.nvtx.range_pop() == 0
        assert torch.gxu.nvtx.range_pop() == -1
        torch.gxu.nvtx.range_end(number)
        with torch.gxu.nvtx.range("step {}", 3):
            pass
    seen = {event.key for event in profiler.key_averages()}
    assert {"outer", "across", "inner", "here", "step 3"} <= seen


def test_tensor_types() -> None:
    half = torch.gxu.HalfTensor([1, 2])
    assert half.device.type == "gxu"
    assert half.dtype == torch.float16
    assert half.tolist() == [1, 2]
    assert torch.gxu.FloatTensor(2, 3).shape == (2, 3)
    assert torch.gxu.LongTensor().numel() == 0
    assert torch.gxu.FloatTensor(half).dtype == torch.float32
    assert half.type() == "torch.gxu.HalfTensor"
    assert torch.ones(2).type(torch.gxu.IntTensor).type() == "torch.gxu.IntTensor"
    assert isinstance(half, torch.gxu.HalfTensor)
    assert not isinstance(half, torch.gxu.FloatTensor)
    assert not isinstance(half.cpu(), torch.gxu.HalfTensor)


@pytest.mark.filterwarnings("ignore:torch.set_default_tensor_type")
def test_a_tensor_type_may_be_the_default() -> None:
    """Older scripts do so: `torch.set_default_tensor_type(torch.cuda.FloatTensor)`."""
    try:
        torch.set_default_tensor_type("torch.gxu.DoubleTensor")
        assert torch.zeros(1).type() == "torch.gxu.DoubleTensor"
        assert torch.nn.Linear(2, 2).weight.type() == "torch.gxu.DoubleTensor"
        assert torch.arange(3).device.type == "gxu"
        with pytest.raises(TypeError, match="only floating-point types"):
            torch.set_default_tensor_type(torch.gxu.IntTensor)
        assert torch.zeros(1, device="cpu").type() == "torch.DoubleTensor"
    finally:
        torch.set_default_tensor_type(torch.FloatTensor)
    assert torch.zeros(1).type() == "torch.FloatTensor"
    assert torch.get_default_device().type == "cpu"


def test_encoder_in_evaluation_with_a_padding_mask() -> None:
    """It goes through nested tensors of layout strided."""
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2).eval()
    x, mask = torch.randn(3, 5, 16), torch.arange(5) >= torch.tensor([[5], [3], [4]])
    with torch.no_grad():
        expected = encoder(x, src_key_padding_mask=mask)
        result = encoder.to("gxu")(x.to("gxu"), src_key_padding_mask=mask.to("gxu")).cpu()
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def test_device_names() -> None:
    assert torch.device("gxu").type == "gxu"
    assert str(torch.device("gxu", 0)) == "gxu:0"
    assert torch.ones(1, device="gxu").device == torch.device("gxu:0")
    assert torch._C._get_privateuse1_backend_name() == "gxu"


def test_generated_methods() -> None:
    x = torch.ones(2)
    assert not x.is_gxu
    there = x.gxu()
    assert there.is_gxu
    assert there.gxu() is there
    assert x.gxu(0).device.index == 0
    module = torch.nn.Linear(2, 2).gxu()
    assert all(parameter.is_gxu for parameter in module.parameters())
    assert there.untyped_storage().is_gxu
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(2)]).gxu()
    assert packed.is_gxu


def test_default_device() -> None:
    with torch.device("gxu"):
        assert torch.zeros(2).is_gxu
        assert torch.nn.Linear(1, 1).weight.is_gxu
    assert not torch.zeros(2).is_gxu


def test_deepcopy_and_parameters() -> None:
    module = copy.deepcopy(torch.nn.Linear(3, 2).to("gxu"))
    assert module.weight.is_gxu
    parameter = torch.nn.Parameter(torch.ones(2, device="gxu"))
    assert parameter.is_leaf
    module.to("cpu")
    assert not module.weight.is_gxu


def test_properties() -> None:
    properties = torch.gxu.get_device_properties()
    assert properties == torch.gxu.get_device_properties("gxu:0") == torch.gxu.get_device_properties(0)
    assert torch.gxu._C.get_device_properties(0) == dataclasses.asdict(properties)
    assert torch.gxu.get_device_name() == properties.name
    assert torch.gxu.get_device_capability() == (properties.major, properties.minor)
    assert properties.total_memory == torch.gxu.mem_get_info()[1]
    assert torch.gxu.get_arch_list() == [f"{properties.triton_backend}:{properties.triton_arch}"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        properties.name = "other"  # type: ignore[misc]


def test_properties_of_the_host_engine() -> None:
    properties = torch.gxu.get_device_properties()
    assert properties.name.startswith("GXU (host engine, ")
    assert (properties.multi_processor_count, properties.max_grid_size) == (48, 48)
    assert (properties.warp_size, properties.preferred_num_warps) == (32, 1)
    assert (properties.triton_backend, properties.delegate) == ("gxu", "cpu")
    assert properties.host_accessible


def test_torch_accelerator() -> None:
    assert torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator() == torch.device("gxu")
    assert torch.accelerator.device_count() == torch.gxu.device_count()
    assert torch.accelerator.current_device_index() == 0
    torch.accelerator.set_device_index(0)
    with torch.accelerator.device_index(0):
        torch.accelerator.synchronize()


TWO_DEVICES = """
import threading, torch
assert torch.gxu.device_count() == 2
x = torch.ones(3, device="gxu:1")
assert (x + 1).device.index == 1 and torch.gxu.current_device() == 0
assert torch.zeros_like(x).device.index == x.clone().device.index == x.new_ones(1).device.index == 1
with torch.gxu.device(1) as entered:
    assert entered.idx == 1 and torch.gxu.current_device() == 1
    assert torch.empty(1, device="gxu").device.index == 1
    assert torch.gxu._C.empty_strided_gxu((2,), (1,), torch.float32).device.index == 1
    with torch.gxu.device("gxu:0"):
        assert torch.gxu.current_device() == 0
    with torch.gxu.device(None), torch.gxu.device(-1):
        assert torch.gxu.current_device() == 1
assert torch.gxu.current_device() == 0
try:
    with torch.gxu.device(1):
        raise KeyError
except KeyError:
    assert torch.gxu.current_device() == 0
with torch.gxu.device_of(x):
    assert torch.gxu.current_device() == 1
with torch.gxu.device_of(torch.ones(1)):
    assert torch.gxu.current_device() == 0
with torch.gxu._DeviceGuard(1):
    assert torch.gxu.current_device() == 1
torch.gxu.set_device("gxu:1")
assert torch.accelerator.current_device_index() == 1
seen = []
thread = threading.Thread(target=lambda: seen.append(torch.gxu.current_device()))
thread.start(); thread.join()
assert seen == [0]
assert torch.gxu._C.exchange_device(0) == 1 and torch.gxu._C.maybe_exchange_device(-1) == 0
torch.manual_seed(7)
a, b = torch.rand(2, device="gxu:0"), torch.rand(2, device="gxu:1")
assert torch.equal(a.cpu(), b.cpu())
assert len(torch.gxu.default_generators) == 2 and len(torch.gxu.get_rng_state_all()) == 2
y = x.detach().requires_grad_()
(y * 2).sum().backward()
assert y.grad.device.index == 1
assert torch.device("gxu:1") == torch.nn.Linear(2, 2, device="gxu:1").weight.device
torch.gxu.synchronize(); torch.gxu.synchronize(0); torch.gxu.synchronize("gxu:1")
"""


def test_two_devices(run_python: RunPython) -> None:
    result = run_python("-c", TWO_DEVICES, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr


def test_seeds_before_the_first_use(run_python: RunPython) -> None:
    code = """
import torch
torch.manual_seed(11)
assert not torch.gxu.is_initialized()
generator = torch.Generator("gxu").manual_seed(11)
assert torch.equal(torch.rand(3, device="gxu"), torch.rand(3, device="gxu", generator=generator))
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


def test_seeds_around_a_start_of_the_runtime(run_python: RunPython) -> None:
    code = """
import torch
torch.manual_seed(11)
torch.gxu.set_device(0)
assert torch.gxu.is_initialized() and torch.gxu.initial_seed() == 11
torch.manual_seed(12)
torch.ones(1, device="gxu")
assert torch.gxu.initial_seed() == 12
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


def test_random_state() -> None:
    torch.manual_seed(3)
    assert torch.gxu.initial_seed() == 3
    with torch.random.fork_rng(devices=[0], device_type="gxu"):
        inside = torch.rand(2, device="gxu")
    assert torch.equal(torch.rand(2, device="gxu"), inside)
    state = torch.gxu.get_rng_state("gxu:0")
    assert state.device.type == "cpu"
    torch.gxu.manual_seed(9)
    first = torch.rand(2, device="gxu")
    torch.gxu.manual_seed_all(9)
    assert torch.equal(torch.rand(2, device="gxu"), first)
    torch.gxu.set_rng_state(state)
    assert torch.equal(torch.gxu.get_rng_state(), state)
    assert torch.gxu.seed() == torch.gxu.initial_seed()
    generator = torch.Generator("gxu:0")
    assert generator.device == torch.device("gxu:0")
    clone = generator.manual_seed(4).clone_state()
    assert torch.equal(torch.rand(2, device="gxu", generator=generator), torch.rand(2, device="gxu", generator=clone))


def test_first_use_from_many_threads(run_python: RunPython) -> None:
    code = """
import threading, torch
results = []
def work():
    results.append((torch.ones(3, device="gxu") + 1).sum().item())
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert results == [6.0] * 8, results
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


def test_use_in_a_spawned_process(run_python: RunPython, tmp_path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        """
import torch, torch.multiprocessing as mp

def work(rank, results):
    results.put(float((torch.ones(2, device="gxu") * rank).sum()))

if __name__ == "__main__":
    torch.ones(1, device="gxu")
    context = mp.get_context("spawn")
    results = context.Queue()
    mp.spawn(work, (results,), nprocs=2)
    print(sorted(results.get() for _ in range(2)))
"""
    )
    result = run_python(str(script))
    assert result.stdout.strip() == "[0.0, 2.0]", result.stderr


def test_backward_from_a_thread() -> None:
    gradients = []

    def work() -> None:
        x = torch.ones(2, device="gxu", requires_grad=True)
        (x * 3).sum().backward()
        gradients.append(x.grad.tolist())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert gradients == [[3, 3]]


def test_exit_right_after_backward(run_python: RunPython) -> None:
    """Autograd's thread of the device must not be cut off by the end of the interpreter."""
    code = """
import torch
model = torch.nn.LSTM(4, 5).to("gxu")
model(torch.randn(3, 2, 4, device="gxu"))[0].sum().backward()
"""
    for _ in range(5):
        result = run_python("-c", code)
        assert result.returncode == 0, result.stderr


def test_empty_strided() -> None:
    x = torch.gxu._C.empty_strided_gxu((2, 3), (1, 2), torch.bfloat16)
    assert (x.shape, x.stride(), x.dtype, x.device) == ((2, 3), (1, 2), torch.bfloat16, torch.device("gxu:0"))
    with pytest.raises(TypeError, match="size and stride must be tuples"):
        torch.gxu._C.empty_strided_gxu([2], [1], torch.float32)
    with pytest.raises(TypeError, match="dtype"):
        torch.gxu._C.empty_strided_gxu((2,), (1,), "float32")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.uint8, torch.bool]
)
def test_deterministic_algorithms_fill_new_memory(dtype: torch.dtype) -> None:
    """As on the CPU: NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True)
    try:
        for make in (
            lambda device: torch.empty(5, 3, dtype=dtype, device=device),
            lambda device: torch.empty_strided((3, 5), (1, 3), dtype=dtype, device=device),
            lambda device: torch.empty(0, dtype=dtype, device=device).resize_(7),
        ):
            torch.testing.assert_close(make("gxu").cpu(), make("cpu"), rtol=0, atol=0, equal_nan=True)
    finally:
        torch.use_deterministic_algorithms(False)
