"""The progress of long work in the library, on the command line."""

from __future__ import annotations

from collections.abc import Callable

from mnesis.display.progress_bar import Progress


def follow_progress(bar: Progress) -> Callable[[int, int], None]:
    """Return a function that shows on a bar how much is done, of how much."""
    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        bar.set_total(total)
        bar.advance(done - shown)
        shown = done

    return show
