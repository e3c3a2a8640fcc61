"""Text for people and programs: harmless whatever it holds, coloured only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from mnesis.display.text import STAND_IN as STAND_IN
from mnesis.display.text import chart as chart
from mnesis.display.text import clean as clean
from mnesis.display.text import counted as counted
from mnesis.display.text import gauge as gauge
from mnesis.display.text import one_line as one_line
from mnesis.display.text import shortened as shortened
from mnesis.display.text import when as when

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 160
ROLE_STYLES = {"system": "magenta", "user": "bold cyan", "assistant": "bold green", "tool": "yellow"}


def print_json(value: Any) -> None:
    """One JSON document on standard output, in ASCII, so that no character of the content reaches a terminal."""
    print(to_json(value, indent=2))


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in printable ASCII."""
    return json.dumps(value, indent=indent)


def console() -> Console:
    """Standard output; colours only on a terminal and unless NO_COLOR is set; markup in content means nothing."""
    from rich.console import Console
    from rich.text import Text

    class Rim(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with 1; the command decides

        def print(self, *objects: Any, **options: Any) -> None:
            if not self.is_terminal and len(objects) == 1 and isinstance(objects[0], Text):
                self.file.write(f"{objects[0].plain}\n")  # as it is, and many times as fast as a layout
            else:
                super().print(*objects, **options)

    return Rim(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",  # without a system not even bold
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def table(*columns: str, right: tuple[str, ...], shrinks: str) -> Table:
    """A plain table; the columns named in `right` are numbers, and the one named in `shrinks` gives way on narrow screens."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name != shrinks)
    return made


def cut(text: str, width: int) -> Text:
    """A cell on one line of at most `width` characters, fewer where the column has shrunk."""
    from rich.text import Text

    return Text(one_line(text, width), no_wrap=True, overflow="ellipsis")


def note(text: str) -> None:
    """A message for people, on standard error."""
    print(clean(text), file=sys.stderr)
