"""What the backend cannot compile: one error that names operation, kernel and source line; then work goes on."""

from __future__ import annotations

import pickle

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait, globaltimer
from triton_helpers import launch

from gxu.triton.errors import UnsupportedError


@triton.jit
def add_one(x, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(x + i, tl.load(x + i) + 1)


@triton.jit
def assembly(x, B: tl.constexpr):
    v = tl.load(x + tl.arange(0, B))
    v = tl.inline_asm_elementwise("mov.b32 $0, %tid.x;", "=r,r", [v], tl.float32, is_pure=True, pack=1)  # inline_asm
    tl.store(x + tl.arange(0, B), v)


@triton.jit
def special_register(x):
    tl.store(x, globaltimer())  # timer


@triton.jit
def dependent_launch(x):
    gdc_wait()  # gdc
    tl.store(x, 1)


@triton.jit
def plain(x, n):  # plain
    for i in tl.range(0, n, num_stages=3, loop_unroll_factor=2, disallow_acc_multi_buffer=True, flatten=True):
        tl.store(x + i, i + 1)


@triton.jit
def specialised(a, b, c, M, N, K, B: tl.constexpr, PROGRAMS: tl.constexpr):
    left = tl.make_tensor_descriptor(a, (M, K), (K, 1), (B, B))
    right = tl.make_tensor_descriptor(b, (K, N), (N, 1), (B, B))
    out = tl.make_tensor_descriptor(c, (M, N), (N, 1), (B, B))
    columns = tl.cdiv(N, B)
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, B) * columns, PROGRAMS, flatten=True, warp_specialize=True):
        sums = tl.zeros((B, B), tl.float32)
        for k in tl.range(0, K, B, warp_specialize=True):
            sums = tl.dot(left.load([tile // columns * B, k]), right.load([k, tile % columns * B]), sums)
        out.store([tile // columns * B, tile % columns * B], sums)


@triton.jit
def barrier(x):  # barrier
    tl.atomic_add(x, 1)
    while tl.load(x, volatile=True) < tl.num_programs(0):
        pass


def line_of(kernel: object, comment: str) -> int:
    """The number, in this file, of the kernel's line that carries ``comment``."""
    start = kernel.starting_line_number  # type: ignore[attr-defined]
    for offset, line in enumerate(kernel.raw_src):  # type: ignore[attr-defined]
        if line.rstrip().endswith(f"# {comment}"):
            return start + offset
    raise AssertionError(f"no line says {comment}")


@pytest.mark.parametrize(
    ("kernel", "operation", "comment"),
    [
        (assembly, "tt.elementwise_inline_asm", "inline_asm"),
    ],
)
def test_error_names_operation_kernel_and_line(kernel, operation, comment):
    with pytest.raises(UnsupportedError) as caught:
        launch(kernel, (1,), torch.zeros(1024), B=32)
    message = str(caught.value)
    assert operation in message
    assert "; " in message  # what to do instead
    assert f"kernel {kernel.fn.__name__}:" in message
    assert f"{__file__}:{line_of(kernel, comment)}" in message
    assert "\n" not in message
    # Compile workers send their errors home.
    assert str(pickle.loads(pickle.dumps(caught.value))) == message  # noqa: S301
    assert message.count(". ") == 0  # one sentence
    # The process lives, and the next kernel compiles and runs.
    add_one.device_caches.clear()
    (x,) = launch(add_one, (1,), torch.zeros(32), B=32)
    assert (x == 1).all()


@pytest.mark.parametrize(
    ("kernel", "comment", "options", "asked"),
    [
        (special_register, "timer", {}, "globaltimer"),
        (dependent_launch, "gdc", {}, "griddepcontrol.wait"),
        (plain, "plain", {"n": 3, "num_ctas": 2}, "num_ctas=2"),
        (barrier, "barrier", {"launch_cooperative_grid": True}, "launch_cooperative_grid=True"),
    ],
)
def test_what_only_a_gpu_has(kernel, comment, options, asked):
    with pytest.raises(UnsupportedError) as caught:
        launch(kernel, (1,), torch.zeros(8, dtype=torch.int64), **options)
    message = str(caught.value)
    assert message.startswith(f"kernel {kernel.fn.__name__}: the gxu Triton backend does not support ")
    assert asked in message
    assert f" at {__file__}:{line_of(kernel, comment)}; " in message
    assert "\n" not in message


def test_hints_to_a_gpu_change_nothing():
    options = {"num_warps": 8, "num_stages": 4, "maxnreg": 128, "num_ctas": 1, "launch_cooperative_grid": True}
    (x,) = launch(plain, (1,), torch.zeros(8), 5, **options)
    assert x.tolist() == [1, 2, 3, 4, 5, 0, 0, 0]


def test_warp_specialisation_is_a_hint():
    m, n, k = 37, 52, 68
    a, b = torch.randn(m, k), torch.randn(k, n)
    c = launch(specialised, (3,), a, b, torch.full((m, n), torch.nan), m, n, k, B=16, PROGRAMS=3)[2]
    torch.testing.assert_close(c.cpu().double(), a.double() @ b.double(), rtol=0, atol=1e-5 * k)


def test_options_that_nobody_knows_are_triton_s_error():
    with pytest.raises(KeyError, match="num_wraps"):
        launch(plain, (1,), torch.zeros(8), 5, num_wraps=8)


@triton.jit
def unknown_function(x, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.extra.libdevice.no_such_function(tl.load(x + i))
    tl.store(x + i, v)


def test_unknown_library_function():
    with pytest.raises(Exception, match="no_such_function"):
        launch(unknown_function, (1,), torch.zeros(8), B=8)


def test_gluon_kernels_are_refused():
    from triton.backends.compiler import GPUTarget, Language

    from gxu.triton.compiler import GXUBackend

    backend = GXUBackend(GPUTarget("gxu", "1", 32))
    with pytest.raises(NotImplementedError, match=r"Gluon.*triton\.language"):
        backend.add_stages({}, backend.parse_options({}), Language.GLUON)


def test_options_are_checked():
    from triton.backends.compiler import GPUTarget

    from gxu.triton.compiler import GXUBackend

    backend = GXUBackend(GPUTarget("gxu", "1", 32))
    with pytest.raises(AssertionError, match="num_warps must be a power of 2, not 3"):
        backend.parse_options({"num_warps": 3})
    first, second = backend.parse_options({"num_warps": 1}), backend.parse_options({"num_warps": 2})
    assert first.hash() != second.hash()


# -- assertions on the device --------------------------------------------------------------------------------------

_ASSERTS = """
import torch, triton, triton.language as tl

@triton.jit
def guarded(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, i < n, other=0)
    tl.device_assert(v >= 0, "index out of range", mask=i < n)
    tl.store(out + i, v + 1, i < n)

@triton.jit
def scalar(x, out):
    v = tl.load(x)
    tl.device_assert(v != 7, "seven")
    tl.store(out, v)

x = torch.arange(100, device="gxu", dtype=torch.int32)
out = torch.zeros_like(x)
guarded[(4,)](x, out, 100, B=32, debug=True)
torch.gxu.synchronize()
assert (out == x + 1).all().item()
x[77] = -5
for run in (lambda: guarded[(4,)](x, out, 100, B=32, debug=True), lambda: scalar[(1,)](x[7:], out, debug=True)):
    try:
        run()
        torch.gxu.synchronize()
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("no error")
x[77] = 5
guarded[(4,)](x, out, 100, B=32, debug=True)
torch.gxu.synchronize()
print("usable", (out == x + 1).all().item())
"""


def test_device_assertions(run_python, tmp_path):
    script = tmp_path / "asserts.py"
    script.write_text(_ASSERTS)
    done = run_python(str(script))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "index out of range" in lines[0]
    assert "asserts.py:8" in lines[0]
    assert "seven" in lines[1]
    assert lines[2] == "usable True"
