"""Operators on PyTorch's cuda kernels: test_cuda_delegate.py runs this, with cuda_in_torch.cpp in place of cuda."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CUDA = ctypes.CDLL(os.environ["CUDA_IN_TORCH"])
CUDA.take_calls.restype = ctypes.c_void_p


def take_calls() -> list[tuple[str, int]]:
    """Operators that ran on "cuda" since the last call, each with the address of its stream."""
    text = CUDA.take_calls()
    lines = ctypes.string_at(text).decode().splitlines()
    ctypes.CDLL(None).free(ctypes.c_void_p(text))
    return [(name.removeprefix("aten::"), int(stream)) for name, stream in (line.split() for line in lines)]


def names() -> list[str]:
    return [name for name, _ in take_calls()]


@pytest.fixture(autouse=True)
def only_on_cuda() -> Iterator[None]:
    """No operator of a test may go to the CPU, which warns."""
    take_calls()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


R = torch.randn

OPERATORS: dict[str, tuple[Callable[..., object], tuple[Tensor, ...]]] = {
    "add": (lambda x, y: x + y, (R(3, 5), R(3, 5))),
    "number": (lambda x: 2 - x * 3, (R(7),)),
    "host number": (lambda x: x * torch.tensor(2.5), (R(7),)),
    "empty": (lambda x: x.sum(0), (R(0, 3),)),
    "matmul": (lambda x, y: x @ y, (R(4, 5), R(5, 6))),
    "addmm": (torch.addmm, (R(6), R(4, 5), R(5, 6))),
    "sort": (torch.sort, (R(4, 9),)),
    "unique": (torch.unique, (torch.randint(0, 5, (20,)),)),
    "split": (lambda x: [part.neg() for part in x.split(2)], (R(7, 2),)),
    "view": (lambda x: x[1:, ::2].t().abs(), (R(5, 6),)),
    "cat": (lambda x, y: torch.cat([x, y, x]), (R(2, 3), R(4, 3))),
    "index": (lambda x, i: x[i, 1:], (R(5, 6), torch.tensor([4, 0, 4]))),
    "index_put": (lambda x, i: x.index_put((i,), torch.tensor(1.0)), (R(5, 6), torch.tensor([4, 0]))),
    "in place": (lambda x, y: x.clone().mul_(y).add_(1), (R(3, 4), R(3, 4))),
    "in place on a view": (lambda x: (x := x.clone(), x[:, 1].fill_(7))[0], (R(3, 4),)),
    "dtype": (lambda x: x.to(torch.float64).to(torch.int32), (R(6) * 10,)),
    "strided copy": (lambda x: x.t().contiguous(), (R(3, 4),)),
    "channels last": (lambda x: x.contiguous(memory_format=torch.channels_last), (R(2, 3, 4, 5),)),
    "complex": (lambda x: (torch.view_as_complex(x).conj() * 1j).resolve_conj(), (R(3, 2),)),
    "foreach": (lambda x, y: torch._foreach_add([x, y], [y, x], alpha=2), (R(3), R(3))),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, padding=1), (R(2, 3, 8, 8), R(4, 3, 3, 3), R(4))),
    "transposed convolution": (lambda x, w: F.conv_transpose1d(x, w, stride=2), (R(2, 3, 8), R(3, 4, 3))),
    "attention": (lambda q, k: F.scaled_dot_product_attention(q, k, k), (R(2, 4, 8, 16), R(2, 4, 8, 16))),
    "attention with a mask": (
        lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m > 0),
        (R(2, 4, 8, 16), R(8, 8)),
    ),
    "layer norm": (lambda x: F.layer_norm(x, (6,)), (R(5, 6),)),
    "batch norm": (lambda x, m, v: F.batch_norm(x, m, v.abs(), training=True), (R(5, 6), R(6), R(6))),
    "cross entropy": (lambda x: F.cross_entropy(x, torch.arange(4, device=x.device)), (R(4, 6),)),
    "ranges": (lambda x: x + torch.arange(4, device=x.device) + torch.ones(4, device=x.device), (R(4),)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_values_strides_and_device(name: str) -> None:
    function, inputs = OPERATORS[name]
    result = function(*(x.to("gxu") for x in inputs))
    assert take_calls()
    expected = function(*inputs)
    for mine, reference in zip(
        torch.utils._pytree.tree_leaves(result), torch.utils._pytree.tree_leaves(expected), strict=True
    ):
        assert mine.device == torch.device("gxu", 0)
        assert mine.stride() == reference.stride()
        torch.testing.assert_close(mine.cpu(), reference)


def test_views_share_their_memory() -> None:
    x = R(4, 6).to("gxu")
    part = x[1:3, ::2]
    part.add_(100)
    assert part.data_ptr() == x.data_ptr() + 6 * x.element_size()
    assert (x.cpu() > 50).sum().item() == 6


def test_results_of_the_wrong_size_are_resized() -> None:
    x = R(3, 4).to("gxu")
    out = torch.empty(0, device="gxu")
    assert torch.mul(x, 2, out=out) is out
    torch.testing.assert_close(out.cpu(), x.cpu() * 2)
    out.resize_(50).fill_(1)
    assert out.sum().item() == 50


def test_item_and_branches() -> None:
    x = torch.tensor([3.0, 4.0]).to("gxu")
    assert x.norm().item() == 5
    assert bool((x > 2).all())
    assert x.tolist() == [3, 4]


def test_operators_run_on_the_current_stream() -> None:
    x = R(5).to("gxu")
    stream = torch.gxu.Stream()
    with torch.gxu.stream(stream):
        _ = x + 1
        y = x.double()
    stream.synchronize()
    assert [address for _, address in take_calls()] == [stream.stream_id] * 2
    assert y.dtype == torch.float64
    _ = x + 1
    assert take_calls()[-1][1] == torch.gxu.current_stream().stream_id


def test_convolutions_and_attention_use_the_kernels_of_cuda() -> None:
    x = R(2, 3, 8, 8).to("gxu").requires_grad_()
    F.conv2d(x, R(4, 3, 3, 3).to("gxu")).sum().backward()
    assert {"_slow_conv2d_forward", "thnn_conv2d", "slow_conv2d_forward"} & set(called := names()), called
    q = R(2, 4, 8, 16).to("gxu").requires_grad_()
    reference = q.detach().cpu().requires_grad_()
    F.scaled_dot_product_attention(q, q, q, is_causal=True).square().sum().backward()
    called = names()
    assert "_scaled_dot_product_flash_attention" in called
    assert "_scaled_dot_product_flash_attention_backward" in called
    F.scaled_dot_product_attention(reference, reference, reference, is_causal=True).square().sum().backward()
    torch.testing.assert_close(q.grad.cpu(), reference.grad)
    odd = R(2, 4, 8, 12).to("gxu")  # heads of 12
    F.scaled_dot_product_attention(odd, odd, odd)
    assert "_scaled_dot_product_flash_attention" not in names()


def test_products_with_a_dtype_go_to_cuda() -> None:
    """gxu's own kernels of them are for other delegates; the CPU, which stands in for CUDA here, has none."""
    a = R(2, 3, 3).half().to("gxu")
    take_calls()
    for product in (
        lambda: torch.mm(a[0], a[1], out_dtype=torch.float32),
        lambda: torch.addmm(a[0], a[0], a[1], torch.float32),
        lambda: torch.bmm(a, a, out_dtype=torch.float32),
        lambda: torch.baddbmm(a, a, a, torch.float32),
    ):
        with pytest.raises(NotImplementedError, match=r"mm.dtype' with arguments from the 'CPU' backend"):
            product()
    assert names() == ["mm", "addmm", "bmm", "baddbmm"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.normal_(),
        lambda x: x.uniform_(1, 2),
        lambda x: x.bernoulli_(0.3),
        lambda x: torch.randint_like(x, 100),
        lambda x: F.dropout(x + 1, 0.4),
        lambda x: torch.randperm(x.numel(), device=x.device),
        lambda x: torch.multinomial(x.abs() + 1, 5),
    ],
)
def test_random_numbers_follow_the_seed(draw: Callable[[Tensor], Tensor]) -> None:
    x = torch.zeros(64, device="gxu")
    torch.manual_seed(5)
    first, second = draw(x).clone(), draw(x).clone()
    assert names()
    torch.manual_seed(5)
    again = draw(x).clone()
    assert not torch.equal(first.cpu(), second.cpu())
    assert torch.equal(first.cpu(), again.cpu())
    assert first.is_gxu


def test_a_generator_of_its_own() -> None:
    generator = torch.Generator("gxu").manual_seed(3)
    first = torch.rand(9, device="gxu", generator=generator).cpu()
    torch.testing.assert_close(torch.rand(9, device="gxu", generator=generator.manual_seed(3)).cpu(), first)
    assert not torch.equal(torch.rand(9, device="gxu", generator=generator).cpu(), first)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(images))).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        out: Tensor = self.head(x.mean(1))
        return out


@pytest.mark.parametrize("fused", [False, True])
def test_training(fused: bool) -> None:
    images, labels = R(4, 3, 6, 6), torch.randint(0, 5, (4,))
    losses = []
    for device in ("cpu", "gxu"):
        torch.manual_seed(0)
        model = Model().to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
        for _ in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_copies_to_and_from_the_host() -> None:
    x = R(5, 6)
    for dtype in (torch.float32, torch.float16, torch.int64):
        torch.testing.assert_close(x.t().to("gxu", dtype).cpu(), x.t().to(dtype))
        torch.testing.assert_close(x.to("gxu").t().to("cpu", dtype), x.t().to(dtype))
    pinned = x.pin_memory()
    torch.testing.assert_close(pinned.to("gxu", non_blocking=True).cpu(), x)
    torch.testing.assert_close(pinned.t().to("gxu", torch.float64, non_blocking=True).cpu(), x.t().double())
    take_calls()
    by_cuda = torch.empty(5, 6, pin_memory=True).copy_(x)
    there = by_cuda.to("gxu", non_blocking=True)
    back = torch.empty(5, 6, pin_memory=True).copy_(there, non_blocking=True)
    torch.gxu.synchronize()
    assert names() == ["copy_", "copy_"]
    torch.testing.assert_close(back, x)


def test_copies_that_overlap_are_refused() -> None:
    x = R(8).to("gxu")
    with pytest.raises(RuntimeError, match="unsupported operation"):
        x[1:].copy_(x[:-1])


def test_sparse_tensors_are_refused() -> None:
    x = torch.eye(3).to_sparse()
    with pytest.raises(NotImplementedError, match=r"of a Sparse tensor .* use a dense tensor"):
        _ = x.to("gxu") + x.to("gxu")
