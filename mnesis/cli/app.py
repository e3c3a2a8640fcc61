"""The command group, which loads each command when it is used, and the messages and exit codes of errors."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module

import click

from mnesis.cli.completion import SESSION_ID
from mnesis.cli.damage import was_damage_noted
from mnesis.cli.output import clean, print_note
from mnesis.errors import MnesisError, MnesisStoreError, NotFoundError, SessionForkedError, StoreBusyError

# Command name -> "module:name", a click command in a module of this package.
COMMANDS = {
    "demo": "demo:command",
    "chat": "chat:command",
    "inspect": "inspect:command",
    "mcp": "mcp:command",
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
    "worker": "worker:command",
    "fork": "fork:command",
    "compact": "compact:command",
    "purge": "purge:command",
    "doctor": "doctor:command",
    "verify": "verify:verify",
    "seal": "verify:seal",
    "salvage": "salvage:command",
    "backup": "backup:command",
    "rekey": "rekey:command",
    "reindex": "maintenance:reindex",
    "migrate": "maintenance:migrate",
    "schema": "schema:command",
    "completion": "completion:command",
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
        for parameter in command.params:
            if parameter.name == "session_id" and isinstance(parameter, click.Argument):
                parameter.type = SESSION_ID
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0].lower(), COMMANDS, n=2) if args else []
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "mnesis --help lists the commands"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        try:
            with _print_logs_as_notes():
                result = self._invoke_and_flush(ctx)
            if was_damage_noted(ctx):
                ctx.exit(PROBLEM_FOUND)
            return result
        except MnesisError as error:
            _print_error(error)
            ctx.exit(exit_code(error))
        except click.UsageError as error:
            raise click.UsageError(clean(error.format_message()), error.ctx) from error
        except ValueError as error:
            # An option made a setting invalid. pydantic is not imported here, because that takes a while.
            if type(error).__module__ != "pydantic_core._pydantic_core":
                raise
            print_note(f"mnesis: {error}")
            ctx.exit(WRONG_USAGE)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(0)
        except OSError as error:
            print_note(f"mnesis: {error}")
            _discard_output()
            ctx.exit(PROBLEM_FOUND)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def _invoke_and_flush(self, ctx: click.Context) -> object:
        """Run the command and flush its output, so that errors in writing it still set the exit code."""
        try:
            return super().invoke(ctx)
        finally:
            sys.stdout.flush()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mnesis-context", prog_name="mnesis")
def cli() -> None:
    """Inspect mnesis databases, move sessions between them, and try the library.

    Data goes to standard output, messages to standard error. The database is --db, then MNESIS_DB, then
    ~/.mnesis/sessions.db. Ids can be shortened to any unique prefix.

    Exit codes: 0 done, 1 a problem was found, 2 wrong usage or unknown id, 3 the database cannot be used.
    """


def exit_code(error: MnesisError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, NotFoundError | ValueError):
        return WRONG_USAGE
    if isinstance(error, SessionForkedError):
        return PROBLEM_FOUND
    return STORE_UNUSABLE if isinstance(error, MnesisStoreError) else PROBLEM_FOUND


class _NoteHandler(logging.Handler):
    """A log handler that prints records as notes, safe for a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(f"note: {record.getMessage()}")


@contextmanager
def _print_logs_as_notes() -> Iterator[None]:
    """Print the library's log records and warnings as notes while a command runs."""
    logger, handler = logging.getLogger("mnesis"), _NoteHandler(logging.WARNING)
    logger.addHandler(handler)
    previous_showwarning, warnings.showwarning = warnings.showwarning, _print_warning
    try:
        yield
    finally:
        logger.removeHandler(handler)
        warnings.showwarning = previous_showwarning


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print_note(f"note: {message}")


def _print_error(error: MnesisError) -> None:
    print_note(f"mnesis: {error}")
    if isinstance(error, StoreBusyError):
        print_note("to wait longer, use --timeout SECONDS")


def _discard_output() -> None:
    """Send all further output to the null device, so that not even the interpreter reports errors at exit.

    Python's documentation advises it: https://docs.python.org/3/library/signal.html#note-on-sigpipe.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # output that a test captures in memory has no descriptor
        os.dup2(null, sys.stdout.fileno())
    os.close(null)
