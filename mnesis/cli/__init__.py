"""The `mnesis` command. Nothing of it is loaded before it runs."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence

# What stands for the marks and drawings of the commands where an output cannot hold them.
_PLAIN = dict(zip("✓✗←→–…·“”▼┤│└├─▁▂▃▄▅▆▇█", '+x<>-~.""v||`|-__:::###', strict=True))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler `mnesis` of output in a small character set: something alike, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with `arguments` (default: those of the process) and leave with its exit code.

    0: done; 1: a problem was found; 2: wrong usage, or an id that is not there; 3: the database cannot be used.
    """
    import io

    from mnesis.cli.app import cli

    codecs.register_error("mnesis", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mnesis")
    cli.main(args=None if arguments is None else list(arguments), prog_name="mnesis")
