"""Progress of a map: reported to a function, shown as a bar, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mnesis.display.progress_bar import progress as progress_bar

ProgressFunction = Callable[[int, int | None], object]
ProgressOption = bool | ProgressFunction
"""True for a bar, or a function called as `progress(completed, total)`. `total` is None while it is not known."""


@contextmanager
def progress_reporter(progress: ProgressOption) -> Iterator[ProgressFunction]:
    """Provide the function to call after each item."""
    if callable(progress):
        yield progress
        return
    with progress_bar("items", enabled=progress) as bar:
        shown = 0

        def report(completed: int, total: int | None) -> None:
            nonlocal shown
            bar.set_total(total)
            bar.advance(completed - shown)
            shown = completed

        yield report
