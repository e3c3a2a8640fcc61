"""How far a map is: told to a function of the user's, shown as a bar, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mnesis.display.progress_bar import progress as bar

Shown = Callable[[int, int | None], object]
Progress = bool | Shown
"""True for a bar, or a function called with how many items are completed and how many there are (None: not known yet)."""


@contextmanager
def shown(progress: Progress) -> Iterator[Shown]:
    """What to call after each item."""
    if callable(progress):
        yield progress
        return
    with bar("items", shown=progress) as watched:

        def tell(completed: int, total: int | None) -> None:
            watched.expect(total)
            watched.advance()

        yield tell
