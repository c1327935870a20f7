"""Refuses, before anything is lowered, what only a GPU can do: one sentence instead of a wrong or endless program."""

from __future__ import annotations

from ..analysis.effects import waits_for_others
from ..errors import UnsupportedError
from ..ir.module import Function


def refuse_gpu_only(function: Function, *, num_ctas: int, cooperative: bool) -> None:
    """Raises UnsupportedError, naming the source line, for launches of ``num_ctas`` cooperating blocks, or with all
    programs running at once (``cooperative``), where they wait for one another.

    ``tl.range(..., warp_specialize=True)`` is not refused, nor read: it says which warps do what, not what is done.
    """
    if num_ctas > 1:
        raise UnsupportedError.at(
            f"num_ctas={num_ctas} (clusters of blocks)", function.location, "launch the kernel with num_ctas=1"
        )
    if cooperative and waits_for_others(function):
        raise UnsupportedError.at(
            "launch_cooperative_grid=True (all programs at once) of programs that wait for one another",
            function.location,
            "end the kernel where its programs wait for each other, and launch another one",
        )
