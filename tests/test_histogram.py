"""torch.histc, of integers too: torch.cuda has that, and the CPU does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.int16], ids=str)
def test_integers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 11, (3, 501), dtype=dtype)
    counts = torch.histc(x.to("gxu"), bins=8, min=0, max=7)
    assert counts.dtype == dtype
    wanted = np.histogram(x.numpy(), bins=8, range=(0, 7))[0]
    if dtype == torch.uint8:
        wanted = wanted % 256
    assert counts.tolist() == wanted.tolist()


def test_floats() -> None:
    torch.manual_seed(1)
    x = torch.randn(1000)
    assert torch.equal(torch.histc(x.to("gxu"), 20).cpu(), torch.histc(x, 20))


def test_compiled() -> None:
    x = torch.randint(0, 4, (100,), device="gxu", dtype=torch.int32)
    compiled = torch.compile(lambda x: torch.histc(x, bins=4, min=0, max=3) + 1, fullgraph=True)
    assert torch.equal(compiled(x).cpu(), torch.bincount(x.cpu(), minlength=4).int() + 1)


def test_bool_is_refused_as_on_the_cpu() -> None:
    with pytest.raises(RuntimeError, match="not implemented for 'Bool'"):
        torch.histc(torch.ones(3, dtype=torch.bool, device="gxu"))
