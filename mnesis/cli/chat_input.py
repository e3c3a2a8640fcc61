"""The messages that a person types in `mnesis chat`: line history, continued lines and blocks."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from mnesis.cli.output import print_note

HISTORY_FILE = Path("~/.mnesis/chat_history")
MAX_HISTORY_LINES = 1_000
BLOCK_MARK = '"""'
PROMPT, CONTINUATION_PROMPT = "> ", "… "


def read_messages() -> Iterator[str]:
    """Yield the messages of standard input, typed or piped, without surrounding white space.

    A line is a message. A line that ends with a backslash continues in the next one. Lines between two lines of three
    quotation marks are one message. Ctrl-C at the prompt and the end of the input end the iteration.
    """
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        with _line_history() if is_interactive else nullcontext():
            yield from join_lines(read_typed_line if is_interactive else read_piped_line)
    except KeyboardInterrupt:
        print_note("")


def join_lines(read_line: Callable[[str], str]) -> Iterator[str]:
    """Yield messages from lines. `read_line(prompt)` returns a line with its newline, or "" at the end of the input."""
    lines: list[str] = []
    is_block = False
    while line := read_line(CONTINUATION_PROMPT if lines or is_block else PROMPT):
        text = line.rstrip("\r\n")
        if text.strip() == BLOCK_MARK:
            is_block = not is_block
            if is_block:
                continue
        elif is_block or text.endswith("\\"):
            lines.append(text if is_block else text[:-1])
            continue
        else:
            lines.append(text)
        yield "\n".join(lines).strip()
        lines = []
    if lines:
        yield "\n".join(lines).strip()


def read_piped_line(prompt: str) -> str:
    """Read the next line of standard input. The prompt is not shown."""
    return sys.stdin.readline()


def read_typed_line(prompt: str) -> str:
    """Let a person edit a line. Returns "" at the end of the input."""
    try:
        return f"{input(prompt)}\n"
    except EOFError:
        print_note("")
        return ""


@contextmanager
def _line_history() -> Iterator[None]:
    """Make lines editable, and recall those of earlier chats, from a file that only its user can read."""
    try:
        import readline
    except ImportError:  # missing on some platforms; lines cannot be edited then
        yield
        return
    path = HISTORY_FILE.expanduser()
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(MAX_HISTORY_LINES)
    try:
        yield
    finally:
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(path)
            path.chmod(0o600)
