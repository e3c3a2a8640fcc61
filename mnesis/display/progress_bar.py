"""Progress of long work: a bar on a terminal or in a notebook, and no output anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from mnesis.display.terminal import in_notebook, on_terminal
from mnesis.display.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

MIN_REDRAW_SECONDS = 0.2
MAX_LABEL_CHARS = 60
_OFF_VALUES = ("0", "false", "no", "off")


class Progress(Protocol):
    """The receiver of progress reports. Safe to call from any thread."""

    def advance(self, count: int = 1) -> None:
        """Record that `count` more items are done."""
        ...

    def set_total(self, total: int | None) -> None:
        """Set the total number of items. None means that it is not known yet."""
        ...


@contextmanager
def progress(label: str, total: int | None = None, *, done: int = 0, enabled: bool = True) -> Iterator[Progress]:
    """Show the progress of the work in this block: `total` items, of which `done` are already finished.

    A terminal shows a bar on standard error and removes it at the end. A notebook shows one line, which remains. Nothing is
    printed elsewhere, with `MNESIS_PROGRESS=0` in the environment, or with `enabled=False`. Standard output is never written
    to. `NO_COLOR` turns colours off.
    """
    label = one_line(label, MAX_LABEL_CHARS)
    if not enabled or os.environ.get("MNESIS_PROGRESS", "").lower() in _OFF_VALUES:
        yield _NoProgress()
    elif in_notebook():
        line = _NotebookLine(label, total, done)
        try:
            yield line
        finally:
            line.draw()
    elif on_terminal():
        with _rich_bar() as bar:
            yield _TerminalBar(bar, label, total, done)
    else:
        yield _NoProgress()


def _rich_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_rate(task.finished_speed or task.speed))

    label_column = TextColumn("{task.description}", markup=False)
    # With redirection, rich would print the program's output to the terminal even if it goes to a pipe.
    return RichProgress(
        label_column,
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _rate(per_second: float | None) -> str:
    """Return a rate for people, "" if it is not known yet."""
    if not per_second:
        return ""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


class _NoProgress:
    def advance(self, count: int = 1) -> None:
        """Do nothing."""

    def set_total(self, total: int | None) -> None:
        """Do nothing."""


class _TerminalBar:
    def __init__(self, bar: RichProgress, label: str, total: int | None, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task(label, total=total, completed=done)

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)

    def set_total(self, total: int | None) -> None:
        self._bar.update(self._task, total=total)


class _NotebookLine:
    """A notebook output that is redrawn in place, at most every `MIN_REDRAW_SECONDS`."""

    def __init__(self, label: str, total: int | None, done: int) -> None:
        from IPython.display import display

        self._label, self._total, self._done = label, total, done
        self._done_before, self._begun_at = done, monotonic()
        self._drawn_at = self._begun_at
        self._handle: Any = display(self, display_id=True)  # type: ignore[no-untyped-call]  # IPython has no types

    def advance(self, count: int = 1) -> None:
        self._done += count
        if monotonic() - self._drawn_at >= MIN_REDRAW_SECONDS:
            self.draw()

    def set_total(self, total: int | None) -> None:
        self._total = total

    def draw(self) -> None:
        """Redraw the line."""
        self._drawn_at = monotonic()
        self._handle.update(self)

    def __repr__(self) -> str:
        count = f"{self._label}: {self._done:,}" + (f" of {self._total:,}" if self._total is not None else "")
        seconds = self._drawn_at - self._begun_at
        rate = _rate((self._done - self._done_before) / seconds) if seconds > MIN_REDRAW_SECONDS else ""
        return f"{count}, {rate}" if rate else count

    def _repr_html_(self) -> str:
        bar = f'<progress max="{self._total}" value="{self._done}"></progress> ' if self._total else ""
        return f"<div>{bar}{escape(repr(self))}</div>"
