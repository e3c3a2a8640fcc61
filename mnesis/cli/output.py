"""Output for people and programs: safe for terminals with any content, coloured only on a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

from mnesis.display.text import REPLACEMENT as REPLACEMENT
from mnesis.display.text import chart_rows as chart_rows
from mnesis.display.text import clean as clean
from mnesis.display.text import clean_line as clean_line
from mnesis.display.text import format_time as format_time
from mnesis.display.text import gauge_cells as gauge_cells
from mnesis.display.text import one_line as one_line
from mnesis.display.text import pluralize as pluralize
from mnesis.display.text import relative_time as relative_time
from mnesis.display.text import shortest_unique_prefixes as shortest_unique_prefixes
from mnesis.display.text import truncate as truncate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH_CHARS = 160
_MAX_WRAPPED_CHARS, _MIN_WRAPPED_WIDTH_CHARS = 20_000, 20
ROLE_STYLES = {"system": "magenta", "user": "bold cyan", "assistant": "bold green", "tool": "yellow"}


def print_json(value: Any) -> None:
    """Print one JSON document in ASCII, so that the content cannot control a terminal."""
    print(to_json(value, indent=2))


def to_json(value: Any, indent: int | None = None) -> str:
    """Encode a value as JSON in printable ASCII."""
    return json.dumps(value, indent=indent)


def make_console(stream: TextIO | None = None) -> Console:
    """Return a console on standard output, or on another stream.

    It uses colours only on a terminal, and not if NO_COLOR is set. Markup in the content has no effect.
    """
    from rich.console import Console
    from rich.text import Text

    class _QuietConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1; the command decides instead

        def print(self, *objects: Any, **options: Any) -> None:
            if not self.is_terminal and len(objects) == 1 and isinstance(objects[0], Text):
                self.file.write(f"{objects[0].plain}\n")  # looks the same as a layout, and is many times faster
            elif len(objects) == 1 and isinstance(objects[0], Text):
                super().print(wrap_words(objects[0], self), **options)
            else:
                super().print(*objects, **options)

    output = stream or sys.stdout
    return _QuietConsole(
        file=output,
        width=None if output.isatty() else PIPE_WIDTH_CHARS,
        color_system=None if os.environ.get("NO_COLOR") else "auto",  # None also turns off bold
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def wrap_words(text: Text, console: Console) -> Text:
    """Break the lines of a text between words. Continuation lines have the indentation of the first one."""
    from rich.text import Text

    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        indent = len(line.plain) - len(line.plain.lstrip(" "))
        width = console.width - indent
        if line.cell_len <= console.width or len(line) > _MAX_WRAPPED_CHARS or width < _MIN_WRAPPED_WIDTH_CHARS:
            lines.append(line)
        else:
            pieces = line[indent:].wrap(console, width)
            lines += [Text(" " * indent).append_text(piece) for piece in pieces]
    return Text("\n", style=text.style).join(lines) if lines else text


class StreamWrapper:
    """Breaks text that arrives in pieces between words, for a terminal of `width` characters."""

    def __init__(self, width: int) -> None:
        self._width, self._column, self._word = width, 0, ""

    def feed(self, text: str) -> str:
        """Return the text that can be printed now. The word at the end is kept until it is complete."""
        *complete, self._word = re.split(r"(\s)", self._word + text)
        return "".join(self._place(piece) for piece in complete if piece)

    def flush(self) -> str:
        """Return the last word."""
        word, self._word = self._word, ""
        return self._place(word)

    def _place(self, piece: str) -> str:
        from rich.cells import cell_len

        if piece == "\n":
            self._column = 0
            return piece
        cells = cell_len(piece)
        starts_line = self._column > 0 and self._column + cells > self._width
        column = cells if starts_line else self._column + cells
        self._column = column if column <= self._width else column % self._width  # the terminal broke a long word
        if not starts_line:
            return piece
        if piece.isspace():
            self._column = 0
            return "\n"
        return f"\n{piece}"


def make_table(*columns: str, right: tuple[str, ...], shrinking: str) -> Table:
    """Create a table. The columns in `right` are right-aligned; the column `shrinking` narrows on small screens."""
    from rich.table import Table

    new_table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        new_table.add_column(name, justify="right" if name in right else "left", no_wrap=name != shrinking)
    return new_table


def line_cell(text: str, width: int) -> Text:
    """Return a cell on one line of at most `width` characters, fewer if the column has narrowed."""
    from rich.text import Text

    return Text(one_line(text, width), no_wrap=True, overflow="ellipsis")


def print_note(text: str) -> None:
    """Print a message for people on standard error, broken between words on a terminal."""
    if sys.stderr.isatty():
        from rich.text import Text

        make_console(sys.stderr).print(Text(clean(text)))
    else:
        print(clean(text), file=sys.stderr)
