"""The `mnesis` command. Importing this package loads none of its modules."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence

# ASCII characters that replace marks and drawings on outputs with a smaller character set.
_ASCII_SUBSTITUTES = dict(zip("✓✗←→–…·“”▼┤│└├─▁▂▃▄▅▆▇█", '+x<>-~.""v||`|-__:::###', strict=True))


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the output cannot encode by similar ASCII ones, or by question marks.

    This is the codec error handler named `mnesis`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(
        _ASCII_SUBSTITUTES.get(character, "?") for character in error.object[error.start : error.end]
    ), error.end


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with `arguments` (default: those of the process) and exit with its exit code.

    0: done; 1: a problem was found; 2: wrong usage or unknown id; 3: the database cannot be used.
    """
    import io

    from mnesis.cli.app import cli

    codecs.register_error("mnesis", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mnesis")
    cli.main(args=None if arguments is None else list(arguments), prog_name="mnesis")
