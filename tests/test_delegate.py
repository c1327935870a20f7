"""Operators that run on the delegate: the same numbers as on the CPU, in the same memory, with the same aliasing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (4, 1, 9), (65, 33)]

ELEMENTWISE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "add": lambda x: x + 2.5,
    "rsub": lambda x: 1 - x,
    "mul": lambda x: x * x,
    "div": lambda x: x / 3,
    "exp": torch.exp,
    "relu": torch.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "where": lambda x: torch.where(x > 0, x, -x),
    "clamp": lambda x: x.clamp(-1, 1),
    "isnan": torch.isnan,
    "round": lambda x: x.round(decimals=1),
    "sum": lambda x: x.sum(),
    "softmax": lambda x: x.softmax(-1) if x.dim() else x,
    "cumsum": lambda x: x.cumsum(0) if x.dim() else x,
    "flip": lambda x: x.flip(list(range(x.dim()))),
    "sort": lambda x: x.sort(stable=True).values,
}


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(shape, dtype=dtype) * 3
    if x.numel() > 4:
        x.view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)
    return x


def same(actual: Any, expected: Any) -> None:
    """`actual`, on gxu, has the values and the strides of `expected`, on the CPU."""
    assert actual.is_gxu
    assert actual.stride() == expected.stride()
    torch.testing.assert_close(actual.cpu(), expected, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_values(name: str, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    same(ELEMENTWISE[name](x.to("gxu")), ELEMENTWISE[name](x))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_strided_values(name: str) -> None:
    x = values(12, 10)
    for view in (lambda t: t.t(), lambda t: t[1::2, ::3], lambda t: t[:, :1].expand(12, 4)):
        same(ELEMENTWISE[name](view(x.to("gxu"))), ELEMENTWISE[name](view(x)))


def test_matmul_against_fp64() -> None:
    a, b = torch.randn(33, 65), torch.randn(65, 17)
    exact = (a.double() @ b.double()).float()
    torch.testing.assert_close((a.to("gxu") @ b.to("gxu")).cpu(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.addmm(torch.ones(17).to("gxu"), a.to("gxu"), b.to("gxu")).cpu(), exact + 1)


def test_wrapped_numbers_promote_as_on_the_cpu() -> None:
    for dtype in (torch.int8, torch.float16, torch.bfloat16, torch.int64):
        x = torch.ones(3, dtype=dtype)
        for use in (lambda t: t + 1, lambda t: t * 1.5, lambda t: t / 2, lambda t: 2**t, lambda t: t + True):
            assert use(x.to("gxu")).dtype == use(x).dtype
    zero_dim = torch.tensor(2.0, dtype=torch.float64)
    assert (torch.ones(2, device="gxu") + zero_dim).dtype == torch.float32
    assert (torch.ones(2, device="gxu") + zero_dim.to("gxu")).dtype == torch.float32


def test_complex() -> None:
    x, y = torch.randn(4, 3, dtype=torch.complex64), torch.randn(4, 3, dtype=torch.complex64)
    same(x.to("gxu") * y.to("gxu").conj(), x * y.conj())
    same(torch.view_as_real(x.to("gxu")), torch.view_as_real(x))
    same(x.to("gxu").imag + 1, x.imag + 1)
    same(torch.fft.fft(x.to("gxu")), torch.fft.fft(x))
    same(x.to("gxu").mH @ y.to("gxu"), x.mH @ y)


def test_out_arguments() -> None:
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    out = torch.empty(0, device="gxu")
    assert torch.add(a.to("gxu"), b.to("gxu"), out=out) is out
    same(out, a + b)
    into = torch.zeros(4, 3, device="gxu")
    torch.mul(a.to("gxu"), b.to("gxu"), out=into.t())
    same(into, (a * b).t().contiguous())
    maximum, indices = torch.empty(0, device="gxu"), torch.empty(0, dtype=torch.long, device="gxu")
    torch.max(a.to("gxu"), 1, out=(maximum, indices))
    same(maximum, a.max(1).values)
    same(indices, a.max(1).indices)


def test_out_arguments_that_are_left_conjugated() -> None:
    matrix, right = torch.randn(3, 3, dtype=torch.complex64), torch.randn(2, 3, dtype=torch.complex64)
    factors, pivots = torch.linalg.lu_factor(matrix)
    expected = torch.linalg.lu_solve(factors, pivots, right, left=False)
    actual = torch.linalg.lu_solve(factors.to("gxu"), pivots.to("gxu"), right.to("gxu"), left=False)
    torch.testing.assert_close(actual.cpu(), expected)


def test_resize_keeps_contents() -> None:
    x = torch.arange(4.0, device="gxu")
    other = x[1:3]
    x.resize_(10)
    assert x[:4].tolist() == [0, 1, 2, 3]
    assert other.tolist() == [1, 2]
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]]
    x.resize_as_(torch.empty(3, device="gxu"))
    assert x.tolist() == [0, 1, 2]


def test_views_share_memory() -> None:
    x = torch.zeros(4, 6, device="gxu")
    for view in (x.t(), x[1:], x.view(2, 12), x.unfold(1, 2, 2), x.diagonal(), x.as_strided((3,), (7,), 1), x.detach()):
        assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    x.diagonal().add_(1)
    x[1:, ::2].mul_(2).sub_(3)
    expected = torch.zeros(4, 6)
    expected.diagonal().add_(1)
    expected[1:, ::2].mul_(2).sub_(3)
    same(x, expected)
    x.t_()
    assert x.shape == (6, 4)
    assert torch.zeros(3, device="gxu").view(torch.int32).dtype == torch.int32


def test_modules_keep_their_parameters_when_they_move() -> None:
    """As on CUDA: an optimizer may be made before the module goes to the device."""
    module = torch.nn.Linear(3, 4)
    weight = module.weight
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for device in ("gxu", "cpu", "gxu"):
        assert module.to(device).weight is weight
        assert weight.device.type == device
        before = weight.detach().clone()
        optimizer.zero_grad()
        module(torch.ones(2, 3, device=device)).sum().backward()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before - 1)
    lazy = torch.nn.LazyConv2d(4, 3).to("gxu")
    assert lazy(torch.ones(1, 2, 5, 5, device="gxu")).shape == (1, 4, 3, 3)


def test_operators_whose_composite_kernel_names_devices() -> None:
    x = torch.randn(3, 5, dtype=torch.complex64)
    same(x.to("gxu").conj_physical_(), x.clone().conj_physical_())
    numbers = torch.tensor([[1, 2, 2], [3, 3, 1]])
    out = torch.empty(0, dtype=torch.long, device="gxu"), torch.empty(0, dtype=torch.long, device="gxu")
    torch.mode(numbers.to("gxu"), 1, out=out)
    same(out[0], numbers.mode(1).values)


def test_in_place_results_are_the_tensor_itself() -> None:
    x = torch.ones(3, device="gxu")
    assert x.add_(1) is x
    assert x.relu_() is x
    version = x._version
    x.mul_(2)
    assert x._version == version + 1
    assert x.contiguous() is x


def test_copy_on_write() -> None:
    x = torch.ones(2, device="gxu")
    lazy = x._lazy_clone()
    lazy.add_(1)
    assert (x.tolist(), lazy.tolist()) == ([1, 1], [2, 2])


def test_memory_stays_in_place() -> None:
    x = torch.randn(1000, device="gxu")
    pointer = x.data_ptr()
    x.add_(1).sqrt_().sort()
    x.fill_(0)
    assert x.data_ptr() == pointer


def test_lists_of_tensors() -> None:
    parts = [torch.randn(2, 3), torch.randn(1, 3), torch.randn(4, 3)]
    there = [part.to("gxu") for part in parts]
    same(torch.cat(there), torch.cat(parts))
    same(torch.stack([there[0], there[0]]), torch.stack([parts[0], parts[0]]))
    for actual, expected in zip(torch.cat(there).split([3, 4]), torch.cat(parts).split([3, 4]), strict=True):
        same(actual, expected)
    for actual, expected in zip(torch._foreach_add(there, 2), torch._foreach_add(parts, 2), strict=True):
        same(actual, expected)
    torch._foreach_mul_(there, 3)
    same(there[1], parts[1] * 3)


def test_optional_lists_of_tensors() -> None:
    x, rows, mask = torch.randn(5, 4, 3), torch.tensor([4, 0, 2]), torch.tensor([True, False, True, True])
    there = x.to("gxu")
    same(there[:, mask.to("gxu")], x[:, mask])
    same(there[rows.to("gxu"), :, 1], x[rows, :, 1])
    there[rows.to("gxu"), None, 1] = 7
    x[rows, None, 1] = 7
    same(there, x)


def test_results_of_other_shapes() -> None:
    x = torch.tensor([3, 0, 3, 1, 0])
    there = x.to("gxu")
    same(there.nonzero(), x.nonzero())
    for actual, expected in zip(there.unique(return_counts=True), x.unique(return_counts=True), strict=True):
        same(actual, expected)
    assert torch.equal(there, there.clone())
    assert torch.arange(5, device="gxu").tolist() == [0, 1, 2, 3, 4]
    assert torch.eye(2, device="gxu").tolist() == [[1, 0], [0, 1]]
    same(torch.tril_indices(3, 3, device="gxu"), torch.tril_indices(3, 3))
    same(torch.randperm(0, device="gxu"), torch.randperm(0))


def test_random_numbers_follow_the_generator() -> None:
    torch.manual_seed(5)
    expected = torch.poisson(torch.full((4,), 9.0, device="gxu"))
    generator = torch.Generator("gxu").manual_seed(5)
    assert torch.equal(torch.poisson(torch.full((4,), 9.0, device="gxu"), generator=generator), expected)
    state = torch.gxu.get_rng_state()
    first = torch.rand(3, device="gxu")
    torch.gxu.set_rng_state(state)
    assert torch.equal(torch.rand(3, device="gxu"), first)
    with pytest.raises(RuntimeError, match="Expected a 'gxu' device type for generator but found 'cpu'"):
        torch.randn(4, device="gxu", generator=torch.Generator())


def test_cpu_random_numbers_are_untouched_by_gxu() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    torch.rand(10, device="gxu")
    assert torch.equal(torch.rand(3), expected)


def gradients(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Outputs and gradients of everything, on the CPU."""
    inputs = tuple(x.detach().requires_grad_(x.is_floating_point()) for x in inputs)
    outputs = [out for out in torch.utils._pytree.tree_leaves(module(*inputs)) if isinstance(out, torch.Tensor)]
    sum(out.square().sum() for out in outputs).backward()
    tensors = [*outputs, *(p.grad for p in module.parameters()), *(x.grad for x in inputs)]
    return [tensor.cpu() for tensor in tensors if tensor is not None]


MODULES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[torch.Tensor, ...]]] = {
    "linear": (lambda: torch.nn.Linear(6, 4), (torch.randn(5, 6),)),
    "conv1d": (lambda: torch.nn.Conv1d(3, 4, 3, padding=1), (torch.randn(2, 3, 9),)),
    "conv2d": (lambda: torch.nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (torch.randn(2, 4, 9, 8),)),
    "conv3d": (lambda: torch.nn.Conv3d(2, 3, 2), (torch.randn(1, 2, 4, 5, 4),)),
    "conv_transpose2d": (lambda: torch.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (torch.randn(2, 4, 5, 4),)),
    "batch_norm": (lambda: torch.nn.BatchNorm2d(3), (torch.randn(4, 3, 5, 5),)),
    "layer_norm": (lambda: torch.nn.LayerNorm(7), (torch.randn(3, 7),)),
    "embedding": (lambda: torch.nn.Embedding(10, 4), (torch.tensor([[1, 2, 9], [0, 1, 1]]),)),
    "max_pool": (lambda: torch.nn.MaxPool2d(2), (torch.randn(1, 2, 6, 6),)),
    "lstm": (lambda: torch.nn.LSTM(4, 5), (torch.randn(3, 2, 4),)),
    "lstm_bidirectional": (lambda: torch.nn.LSTM(4, 5, 2, bidirectional=True), (torch.randn(3, 2, 4),)),
    "lstm_projected": (lambda: torch.nn.LSTM(4, 5, proj_size=3, bias=False), (torch.randn(3, 2, 4),)),
    "gru": (lambda: torch.nn.GRU(4, 5, batch_first=True), (torch.randn(3, 2, 4),)),
    "gru_no_bias": (lambda: torch.nn.GRU(4, 5, bias=False), (torch.randn(3, 2, 4),)),
    "rnn": (lambda: torch.nn.RNN(4, 5), (torch.randn(3, 2, 4),)),
    "lstm_cell": (lambda: torch.nn.LSTMCell(4, 5), (torch.randn(2, 4),)),
    "gru_cell": (lambda: torch.nn.GRUCell(4, 5), (torch.randn(2, 4),)),
    "attention": (lambda: torch.nn.MultiheadAttention(8, 2, batch_first=True), (torch.randn(2, 5, 8),) * 3),
    "transformer": (lambda: torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), (torch.randn(2, 5, 8),)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_their_gradients(name: str) -> None:
    make, inputs = MODULES[name]
    module = make()
    expected = gradients(copy.deepcopy(module), inputs)
    actual = gradients(module.to("gxu"), tuple(x.to("gxu") for x in inputs))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_packed_sequences() -> None:
    lstm, x, lengths = torch.nn.LSTM(4, 5), torch.randn(6, 3, 4), torch.tensor([6, 2, 4])

    def run(module: torch.nn.Module, sequence: torch.Tensor) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(sequence, lengths, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0])[0]

    expected = run(lstm, x)
    actual = run(lstm.to("gxu"), x.to("gxu"))
    torch.testing.assert_close(actual.cpu(), expected)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_training(optimizer: type[torch.optim.Optimizer]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    x, y = torch.randn(16, 6), torch.randint(0, 2, (16,))

    def train(device: str) -> list[float]:
        local = copy.deepcopy(model).to(device)
        steps = optimizer(local.parameters(), lr=0.05)
        losses = []
        for _ in range(5):
            steps.zero_grad()
            loss = F.cross_entropy(local(x.to(device)), y.to(device))
            loss.backward()
            steps.step()
            losses.append(loss.item())
        return losses

    assert train("gxu") == pytest.approx(train("cpu"), rel=1e-4)


def attention_inputs(heads: int = 4, length: int = 37) -> list[torch.Tensor]:
    return [torch.randn(2, heads, length, 16) for _ in range(3)]


def exact_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1) @ v.double()).float()


MASKS: dict[str, Callable[[], torch.Tensor | None]] = {
    "none": lambda: None,
    "causal": lambda: None,
    "boolean": lambda: torch.rand(2, 1, 37, 37) > 0.3,
    "additive": lambda: torch.randn(37, 37),
}


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("mask_name", MASKS)
def test_attention(mask_name: str, backend: SDPBackend) -> None:
    mask, causal = MASKS[mask_name](), mask_name == "causal"
    inputs = attention_inputs()

    def run(device: str) -> tuple[torch.Tensor, ...]:
        q, k, v = (x.to(device).requires_grad_() for x in inputs)
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask.to(device), is_causal=causal)
        return out, *torch.autograd.grad(out.square().sum(), (q, k, v))

    actual, expected = run("gxu"), run("cpu")
    torch.testing.assert_close(actual[0].cpu(), exact_attention(*inputs, mask, causal), rtol=1e-4, atol=1e-5)
    for a, b in zip(actual, expected, strict=True):
        same(a.detach(), b.detach())


@pytest.mark.parametrize("backend", [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION])
def test_attention_where_only_kernels_of_cuda_are_allowed(backend: SDPBackend) -> None:
    inputs = attention_inputs()
    with sdpa_kernel(backend):
        actual = F.scaled_dot_product_attention(*(x.to("gxu") for x in inputs))
    torch.testing.assert_close(actual.cpu(), exact_attention(*inputs, None, False), rtol=1e-4, atol=1e-5)


def test_attention_takes_the_fused_kernel() -> None:
    q, k, v = (x.to("gxu") for x in attention_inputs())
    with torch.profiler.profile() as profile:
        F.scaled_dot_product_attention(q, k, v)
    names = {event.name for event in profile.events()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_attention_math" not in names


def test_attention_of_transposed_inputs() -> None:
    inputs = [torch.randn(2, 37, 4, 16).transpose(1, 2) for _ in range(3)]
    same(F.scaled_dot_product_attention(*(x.to("gxu") for x in inputs)), F.scaled_dot_product_attention(*inputs))


def test_compiled_attention_has_the_strides_of_eager_attention() -> None:
    """What Inductor believes about the kernel's results, from the operator's fake implementation, is what comes out."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    for inputs in (attention_inputs(), [torch.randn(2, 37, 4, 16).transpose(1, 2) for _ in range(3)]):
        there = [x.to("gxu") for x in inputs]
        real = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*there)
        with FakeTensorMode() as mode:
            fake = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*(mode.from_tensor(x) for x in there))
        for a, b in zip(real, fake, strict=True):
            assert (a.shape, a.stride(), a.dtype, a.device) == (b.shape, b.stride(), b.dtype, b.device)


def test_autocast() -> None:
    linear, x = torch.nn.Linear(4, 4).to("gxu"), torch.randn(2, 4, device="gxu")
    with torch.autocast("gxu", dtype=torch.bfloat16):
        y = linear(x)
        assert y.dtype == torch.bfloat16
        assert y.softmax(-1).dtype == torch.float32
    assert linear(x).dtype == torch.float32
    assert torch.gxu.get_amp_supported_dtype() == [torch.bfloat16, torch.float16]


def test_counts_delegated_operators() -> None:
    x = torch.ones(2, device="gxu")
    before = torch.gxu._C.delegated_count()
    x + x
    assert torch.gxu._C.delegated_count() == before + 1
    x.view(1, 2)
    assert torch.gxu._C.delegated_count() == before + 1


def test_errors_of_the_operator_come_through() -> None:
    x = torch.ones(2, 3, device="gxu")
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        x @ x
    assert (x + 1).sum().item() == 12
    with pytest.raises(IndexError):
        x[torch.tensor([5], device="gxu")]


def test_functional_transforms() -> None:
    x = torch.randn(3, 4)
    f = lambda t: (t.sin() * t).sum()  # noqa: E731
    same(torch.func.vmap(torch.func.grad(f))(x.to("gxu")), torch.func.vmap(torch.func.grad(f))(x))
    same(torch.func.jvp(f, (x.to("gxu"),), (x.to("gxu"),))[1], torch.func.jvp(f, (x,), (x,))[1])


def test_double_backward() -> None:
    x = torch.randn(3, device="gxu", requires_grad=True)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 6 * x)


def test_windows_whose_kernels_pytorch_looks_up_by_device() -> None:
    """Composite operators that no backend overrides."""
    for arguments in ((7,), (7, False), (8, True, 5.0), (0,), (1,)):
        window = torch.kaiser_window(*arguments, dtype=torch.float64, device="gxu")  # type: ignore[call-overload]
        same(window, torch.kaiser_window(*arguments, dtype=torch.float64))  # type: ignore[call-overload]
