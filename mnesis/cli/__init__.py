"""The `mnesis` command. Nothing of it is loaded before it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with `arguments` (default: those of the process) and leave with its exit code.

    0: done; 1: a problem was found; 2: wrong usage, or an id that is not there; 3: the database cannot be used.
    """
    import io

    from mnesis.cli.app import cli

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli.main(args=None if arguments is None else list(arguments), prog_name="mnesis")
