"""The newest windows of the sessions that are active, which their next windows and requests continue."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnesis.late_types import declare_late_types

if TYPE_CHECKING:
    from mnesis.context.assemble import Assembly
    from mnesis.formats.request import RenderedSteps
else:
    declare_late_types(globals(), {"mnesis.context.assemble": "Assembly", "mnesis.formats.request": "RenderedSteps"})

MAX_KEPT_WINDOWS = 256
"""Of the sessions of an engine. A window of 50 messages takes about 100 kB besides its texts, and any number of sessions may be open."""


@dataclass(slots=True)
class KeptWindow:
    """The newest window of an open session, and what its requests were rendered from."""

    assembly: Assembly | None = None
    rendered_steps: RenderedSteps | None = None
    client_steps: RenderedSteps | None = None
    """Those of the newest window for the user's own client."""


class KeptWindows:
    """The windows of the sessions that used theirs last. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: OrderedDict[int, KeptWindow] = OrderedDict()

    def __iter__(self) -> Iterator[KeptWindow]:
        with self._lock:
            windows = list(self._windows.values())
        return iter(windows)  # the one that was not used for the longest time comes first

    def find(self, key: int) -> KeptWindow:
        """Return what is kept under a key, empty at first, and drop the window that was not used for the longest time."""
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = KeptWindow()
            self._windows.move_to_end(key)
            if len(self._windows) > MAX_KEPT_WINDOWS:
                self._windows.popitem(last=False)
            return window

    def drop(self, key: int) -> None:
        """Drop what is kept under a key."""
        with self._lock:
            self._windows.pop(key, None)
