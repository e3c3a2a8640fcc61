"""The progress of long work in the library, on the command line."""

from __future__ import annotations

from collections.abc import Callable

from mnesis.display.progress_bar import Progress


def follow_progress(bar: Progress) -> Callable[[int, int], None]:
    """Return a function that shows the finished part and the total on a bar."""
    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        bar.set_total(total)
        bar.advance(done - shown)
        shown = done

    return show
