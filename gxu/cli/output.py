"""Where commands write: figures and tables to stdout, progress to stderr, JSON to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from gxu.cli.errors import UsageError

# Where stdout is not a terminal there is no width to ask for, and rich's 80 columns would wrap every sentence.
FILE_WIDTH = 120


def make_console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=FILE_WIDTH)


class CountColumn(ProgressColumn):
    """Asks the task's `count` for its text each time the display is drawn: work that reports nothing by itself."""

    def render(self, task: Task) -> Text:
        count: Callable[[], str] | None = task.fields.get("count")
        return Text(count() if count else "")


def make_progress() -> Progress:
    """A progress display on stderr; silent unless stderr is a terminal."""
    console = make_console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        CountColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def check_writable(path: Path) -> None:
    """Raises UsageError if `path` cannot become a file: to be called before the work, and not after it."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder, and a file name was expected")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")


def write_json(path: Path, value: object) -> None:
    try:
        path.write_text(json.dumps(value, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def summarise_bars(rows: Iterable[tuple[str, float, float | None]]) -> str:
    """One sentence on (name, ratio, bar) of a benchmark's rows; empty where none has a bar."""
    with_bar = [(name, ratio, bar) for name, ratio, bar in rows if bar is not None]
    if not with_bar:
        return ""
    below = [name for name, ratio, bar in with_bar if ratio < bar]
    reached = f"{len(with_bar) - len(below)} of {len(with_bar)} rows with a bar reach it"
    return reached + (f"; below it: {', '.join(below)}" if below else "")
