"""Random kernels do on gxu what they do in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch
from random_kernels import KernelGenerator
from triton_helpers import agree


def check(seed: int, folder: Path) -> None:
    generator = KernelGenerator(seed)
    path = folder / f"generated_{seed}.py"
    path.write_text(generator.source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(seed)
    programs = 1 + seed % 3
    buffers = [torch.randint(-50, 50, (programs * generator.size,), dtype=torch.int32) for _ in range(3)]
    sizes = {"SIZE": generator.size, "M": generator.rows, "N": generator.columns, "B": generator.block}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy reports integers that wrap
        try:
            agree(module.generated, (programs,), *buffers, 1 + seed % 7, 3 + seed % 11, **sizes)
        except Exception as error:
            error.add_note(f"seed {seed}, {sizes}\n{generator.source}")
            raise


@pytest.mark.parametrize("seed", range(60))
def test_random_kernels(seed, tmp_path):
    check(seed, tmp_path)


@pytest.mark.extended
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_many_random_kernels(first, tmp_path):
    for seed in range(first, first + 100):
        check(seed, tmp_path)
