"""The rows of a benchmark as bars, with the mark that each has to reach."""

from __future__ import annotations

from pathlib import Path

from gxu.benchmarks.triton.row import Row
from gxu.cli.errors import UsageError

ROW_INCHES, WIDTH_INCHES, MARGIN_INCHES = 0.22, 9.0, 1.2
MET, BELOW = "tab:green", "tab:orange"


def draw(rows: list[Row], path: Path) -> None:
    """One horizontal bar a row, on a logarithmic axis, from the mark (1) to the row's ratio over its bar."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    size = (WIDTH_INCHES, MARGIN_INCHES + ROW_INCHES * len(rows))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    places = range(len(rows))
    speeds = [row.ratio / row.bar for row in rows]
    colors = [MET if row.met else BELOW for row in rows]
    axes.barh(places, [speed - 1.0 for speed in speeds], left=1.0, color=colors, height=0.7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yticks(places, [f"{row.name}  ({row.ratio:.2f}, bar {row.bar:.2f} of {row.against})" for row in rows])
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
