"""The progress of building the search index, on the command line."""

from __future__ import annotations

from collections.abc import Callable

from mnesis.display.progress_bar import Progress


def follow_indexing(bar: Progress) -> Callable[[int, int], None]:
    """Return a function that shows on a bar how many messages are indexed."""
    shown = 0

    def show(indexed: int, missing: int) -> None:
        nonlocal shown
        bar.set_total(missing)
        bar.advance(indexed - shown)
        shown = indexed

    return show
