"""How far long work is: a bar where somebody watches, on a terminal or in a notebook; nothing anywhere else."""

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

REDRAW_SECONDS = 0.2
LABEL_CHARS = 60
_OFF = ("0", "false", "no", "off")


class Progress(Protocol):
    """What long work tells how far it is. Safe to call from any thread."""

    def advance(self, count: int = 1) -> None:
        """`count` more items are done."""
        ...

    def expect(self, total: int | None) -> None:
        """So many items there are altogether; None while that is unknown."""
        ...


@contextmanager
def progress(label: str, total: int | None = None, *, done: int = 0, shown: bool = True) -> Iterator[Progress]:
    """Show how far the work in this block is, of `total` items, `done` of which are finished already.

    On a terminal the bar stands on standard error and goes away at the end; in a notebook one line stays. Where neither is
    attached, with `MNESIS_PROGRESS=0` in the environment or with `shown=False`, nothing is printed. Standard output is
    never written to. `NO_COLOR` turns colours off.
    """
    label = one_line(label, LABEL_CHARS)
    if not shown or os.environ.get("MNESIS_PROGRESS", "").lower() in _OFF:
        yield _Silent()
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
        yield _Silent()


def _rich_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    named = TextColumn("{task.description}", markup=False)
    # Redirection would move what the program prints to a pipe onto the terminal.
    return RichProgress(
        named,
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _Silent:
    def advance(self, count: int = 1) -> None:
        """Nobody watches."""

    def expect(self, total: int | None) -> None:
        """Nobody watches."""


class _TerminalBar:
    def __init__(self, bar: RichProgress, label: str, total: int | None, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task(label, total=total, completed=done)

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)

    def expect(self, total: int | None) -> None:
        self._bar.update(self._task, total=total)


class _NotebookLine:
    """One output that is written over, at most every `REDRAW_SECONDS`."""

    def __init__(self, label: str, total: int | None, done: int) -> None:
        from IPython.display import display

        self._label, self._total, self._done = label, total, done
        self._drawn_at = monotonic()
        self._handle: Any = display(self, display_id=True)  # type: ignore[no-untyped-call]  # IPython's has no types

    def advance(self, count: int = 1) -> None:
        self._done += count
        if monotonic() - self._drawn_at >= REDRAW_SECONDS:
            self.draw()

    def expect(self, total: int | None) -> None:
        self._total = total

    def draw(self) -> None:
        """Write the line anew."""
        self._drawn_at = monotonic()
        self._handle.update(self)

    def __repr__(self) -> str:
        return f"{self._label}: {self._done:,}" + (f" of {self._total:,}" if self._total is not None else "")

    def _repr_html_(self) -> str:
        bar = f'<progress max="{self._total}" value="{self._done}"></progress> ' if self._total else ""
        return f"<div>{bar}{escape(repr(self))}</div>"
