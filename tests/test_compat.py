"""The patches of gxu.inductor.compat: what they answer, and that torch is still what they were written for."""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import Any

import pytest
import torch
import torch._inductor.compile_fx
import torch.utils._triton
from conftest import RunPython
from torch._inductor import utils
from torch._inductor.choices import InductorChoices
from torch._inductor.fx_passes import freezing_patterns

from gxu.inductor import compat


def source_digest(function: Any) -> str:
    """Digest of a function's source without comments and layout."""
    lines = [re.sub(r"\s*#.*", "", line).strip() for line in inspect.getsource(inspect.unwrap(function)).splitlines()]
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("function", "digest"),
    [
        (torch.utils._triton.has_triton, "7d808bfb76dbd8c7"),
        (utils.get_gpu_type, "be3fb0593b50e28d"),
        (utils.is_gpu, "c17f91cd10b2151b"),
        (freezing_patterns.addmm_patterns_init, "cb132d8a52bd917f"),
        (InductorChoices.reduction_split_factor, "be356cc6ab5a5f62"),
    ],
)
def test_torch_is_what_the_patch_was_written_for(function: Any, digest: str) -> None:
    """When this fails, read torch's new version, adapt or drop the patch, and record the new digest."""
    assert source_digest(function) == digest


def test_patches_are_idempotent() -> None:
    before = (torch.utils._triton.has_triton, InductorChoices.reduction_split_factor, list(utils.GPU_TYPES))
    compat.apply()
    compat.apply()
    assert before == (torch.utils._triton.has_triton, InductorChoices.reduction_split_factor, utils.GPU_TYPES)


def test_every_module_sees_the_patched_has_triton() -> None:
    import torch._dynamo.utils
    import torch._inductor.fx_passes.pad_mm
    import torch._inductor.scheduler

    patched = torch.utils._triton.has_triton
    for module in (
        torch._inductor.compile_fx,
        torch._inductor.scheduler,
        torch._inductor.fx_passes.pad_mm,
        torch._inductor.runtime.autotune_cache,
        torch._dynamo.utils,
    ):
        assert module.has_triton is patched  # type: ignore[attr-defined]


def test_gpu_types() -> None:
    assert utils.is_gpu("gxu")
    assert not utils.is_gpu("cpu")
    # Whoever wants "the" GPU of this machine gets the answer that he got without gxu.
    assert utils.get_gpu_type() != "gxu"
    assert "gxu" not in freezing_patterns.GPU_TYPES


def test_split_factor_of_other_devices_is_torchs() -> None:
    original = inspect.unwrap(InductorChoices.reduction_split_factor)
    cpu = torch.device("cpu")
    for arguments in [(1 << 20, 1, True), (1 << 20, 512, False), (100, 7, True)]:
        if torch._inductor.runtime.hints.DeviceProperties.create(cpu).multi_processor_count:
            assert InductorChoices.reduction_split_factor(cpu, *arguments) == original(cpu, *arguments)
    gxu = torch.device("gxu", 0)
    assert InductorChoices.reduction_split_factor(gxu, 48 * 32768, 1, True) == 48


def test_has_triton_is_torchs_until_gxu_is_used(run_python: RunPython) -> None:
    code = """
import torch, gxu
from torch.utils._triton import has_triton
before = has_triton()
import torch._inductor.compile_fx
import torch.utils._triton as t
print(before, t.has_triton(), t.has_triton.__wrapped__())
torch.ones(1, device="gxu")
print(t.has_triton())
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    first, used = done.stdout.splitlines()[-2:]
    assert len(set(first.split())) == 1
    assert used == "True"
