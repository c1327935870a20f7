"""The rows of a benchmark as bars, with the mark that each has to reach."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from gxu.cli.errors import UsageError
from gxu.cli.output import check_writable

ROW_INCHES, WIDTH_INCHES, MARGIN_INCHES = 0.22, 9.0, 1.2
MET, BELOW = "tab:green", "tab:orange"


def check_plot(path: Path) -> None:
    """Raises UsageError if nothing can be drawn into `path`: to be called before the work, and not after it."""
    check_writable(path)
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib, which is not installed; run: pip install matplotlib")


def draw(rows: Sequence[tuple[str, float, float, str]], path: Path) -> None:
    """One horizontal bar for each (name, ratio, bar, against): from the mark to the ratio over its bar, logarithmic."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (WIDTH_INCHES, MARGIN_INCHES + ROW_INCHES * len(rows))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    places = range(len(rows))
    speeds = [ratio / bar for _, ratio, bar, _ in rows]
    colors = [MET if speed >= 1.0 else BELOW for speed in speeds]
    axes.barh(places, [speed - 1.0 for speed in speeds], left=1.0, color=colors, height=0.7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yticks(
        places, [f"{name}  ({ratio:.2f}, bar {bar:.2f} of {against})" for name, ratio, bar, against in rows]
    )
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("speed over its bar (logarithmic; higher is better)")
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise UsageError(f"cannot draw {path}: {error}") from None
    finally:
        pyplot.close(figure)
