"""The group of commands: found by name, loaded when used; and what an error becomes for whoever typed it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

from mnesis.cli.screen import note
from mnesis.errors import ConfigurationError, MnesisError, MnesisStoreError, NotFoundError

# Name and module of each command. A new command is a module here with a click command called `command`.
COMMANDS = {
    "demo": "demo",
    "ls": "ls",
    "show": "show",
    "context": "context",
    "export": "export",
    "import": "restore",
    "doctor": "doctor",
}
PROBLEM_FOUND, WRONG_USAGE, STORE_UNUSABLE, INTERRUPTED = 1, 2, 3, 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"mnesis.cli.{COMMANDS[cmd_name]}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _log_as_notes():
                return self._invoked(ctx)
        except MnesisError as error:
            _tell(error)
            ctx.exit(exit_code(error))
        except BrokenPipeError:
            _close_quietly()
            ctx.exit(0)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def _invoked(self, ctx: click.Context) -> object:
        """Run the command; its output is out before its exit code counts."""
        try:
            return super().invoke(ctx)
        finally:
            sys.stdout.flush()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mnesis", prog_name="mnesis")
def cli() -> None:
    """Look into mnesis databases, move sessions, see the library at work.

    Data goes to standard output, messages to standard error. The database is --db, else MNESIS_DB, else
    ~/.mnesis/sessions.db. Ids may be shortened as long as they stay unique.

    Exit codes: 0 done, 1 a problem was found, 2 wrong usage or unknown id, 3 the database cannot be used.
    """


def exit_code(error: MnesisError) -> int:
    """The exit code an error means."""
    if isinstance(error, NotFoundError | ConfigurationError):
        return WRONG_USAGE
    return STORE_UNUSABLE if isinstance(error, MnesisStoreError) else PROBLEM_FOUND


class _Notes(logging.Handler):
    """What the library logs, as messages that do nothing to a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"note: {record.getMessage()}")


@contextmanager
def _log_as_notes() -> Iterator[None]:
    logger, handler = logging.getLogger("mnesis"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _tell(error: MnesisError) -> None:
    note(f"mnesis: {error}")


def _close_quietly() -> None:
    """Whoever read our output has gone: nothing more is said, not even by the interpreter when it ends."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # lives until the process ends
