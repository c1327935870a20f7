"""The model of the AOTInductor tests, and making its package: `python aoti_model.py FILE`."""

from __future__ import annotations

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

#: Weights are appended to the library and mapped when it is loaded.
OPTIONS = {"aot_inductor.force_mmap_weights": True}


@triton.jit
def shifted_scale(x_ptr, out_ptr, n, scale, shift: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask) * scale + shift, mask)


class Model(nn.Module):
    """Works on the device of its weights and, in part, on the CPU; calls operators and a Triton kernel of a user."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 32)
        self.out = nn.Linear(32, 12)
        self.register_buffer("scale", torch.linspace(0.5, 2, 12))

    def forward(self, x: Tensor, on_cpu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.out(nn.functional.gelu(self.hidden(x))).tanh() * self.scale
        if x.device.type == "gxu":
            scaled = torch.empty_like(logits)
            shifted_scale[(triton.cdiv(logits.numel(), 64),)](logits, scaled, logits.numel(), 0.25, 3, BLOCK=64)
        else:
            scaled = logits * 0.25 + 3
        mean = on_cpu.mean(-1)
        return logits.softmax(-1), scaled, mean


def make_model() -> Model:
    torch.manual_seed(0)
    return Model().eval()


def make_inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Both on the CPU, where the second stays."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 8, generator=generator), torch.randn(batch, 5, generator=generator)


def compile_package(path: str, options: dict[str, object] | None = None) -> None:
    rows = torch.export.Dim("rows", min=1, max=4096)
    x, on_cpu = make_inputs(6)
    program = torch.export.export(
        make_model().to("gxu"), (x.to("gxu"), on_cpu), dynamic_shapes=({0: rows}, {0: rows}), strict=True
    )
    configs = OPTIONS if options is None else options
    torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=configs)


if __name__ == "__main__":
    compile_package(sys.argv[1])
