"""The group of commands: found by name, loaded when used; and what an error becomes for whoever typed it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

from mnesis.cli.output import clean, note
from mnesis.errors import MnesisError, MnesisStoreError, NotFoundError, StoreBusyError

# Name of each command, and where it is: a module here and the name of a click command in it.
COMMANDS = {
    "demo": "demo:command",
    "chat": "chat:command",
    "ls": "ls:command",
    "show": "show:command",
    "context": "context:command",
    "dag": "dag:command",
    "timeline": "timeline:command",
    "search": "search:command",
    "grep": "grep:command",
    "expand": "expand:command",
    "stats": "stats:command",
    "export": "export:command",
    "import": "import_session:command",
    "compact": "compact:command",
    "purge": "purge:command",
    "doctor": "doctor:command",
    "backup": "backup:command",
    "reindex": "maintenance:reindex",
    "migrate": "maintenance:migrate",
}
PROBLEM_FOUND, WRONG_USAGE, STORE_UNUSABLE, INTERRUPTED = 1, 2, 3, 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"mnesis.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _log_as_notes():
                return self._invoked(ctx)
        except MnesisError as error:
            _tell(error)
            ctx.exit(exit_code(error))
        except click.UsageError as error:
            raise click.UsageError(clean(error.format_message()), error.ctx) from error
        except BrokenPipeError:
            _close_quietly()
            ctx.exit(0)
        except OSError as error:
            note(f"mnesis: {error}")
            _close_quietly()
            ctx.exit(PROBLEM_FOUND)
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
    if isinstance(error, NotFoundError | ValueError):
        return WRONG_USAGE
    return STORE_UNUSABLE if isinstance(error, MnesisStoreError) else PROBLEM_FOUND


class _Notes(logging.Handler):
    """What the library logs, as messages that do nothing to a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"note: {record.getMessage()}")


@contextmanager
def _log_as_notes() -> Iterator[None]:
    """While a command runs, what the library logs or warns of becomes notes."""
    logger, handler = logging.getLogger("mnesis"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    shown, warnings.showwarning = warnings.showwarning, _warn
    try:
        yield
    finally:
        logger.removeHandler(handler)
        warnings.showwarning = shown


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    note(f"note: {message}")


def _tell(error: MnesisError) -> None:
    note(f"mnesis: {error}")
    if isinstance(error, StoreBusyError):
        note("to wait longer for it: --timeout SECONDS")


def _close_quietly() -> None:
    """Our output goes nowhere any more: nothing more is said, not even by the interpreter when it ends."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # lives until the process ends
