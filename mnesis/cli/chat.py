"""`mnesis chat`: an interactive conversation that shows its context."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.app import PROBLEM_FOUND
from mnesis.cli.compact import describe_compaction
from mnesis.cli.context import config_with_context_limit, print_window
from mnesis.cli.database_option import DatabaseOption, NoDatabaseError, database_path, db_option, open_engine
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, gauge_cells, make_console, print_note, to_json
from mnesis.cli.search import hit_line
from mnesis.errors import MnesisError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.models.message import MessagePart
    from mnesis.models.results import TurnResult
    from mnesis.models.session import SessionRecord
    from mnesis.sync import SyncSession

MOCK_MODEL = "mock"
MOCK_CONTEXT_LIMIT_TOKENS = 32_768
_GAUGE_WIDTH_CHARS, _MAX_HITS = 30, 5
_COMMAND_HELP = "/context: show what the model is sent; /compact: fold the context now; /search WORDS; /quit"


@click.command(
    "chat",
    short_help="Chat with a model and watch the context.",
    epilog="Example: mnesis chat --mock",
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--model", metavar="MODEL", help="A litellm model name: openai/gpt-4o-mini, ollama/llama3, ...")
@click.option("--mock", is_flag=True, help="Use a mock model that needs no API key.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "--context-limit",
    type=click.IntRange(min=256),
    metavar="TOKENS",
    help="The model's context window, if the built-in value is wrong.",
)
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print each turn as one line of JSON.")
@db_option
@click.pass_context
def command(
    ctx: click.Context, session_id: str | None, model: str | None, mock: bool, system: str | None,
    context_limit: int | None, as_jsonl: bool, db: DatabaseOption,
) -> None:  # fmt: skip
    """Chat with a model; each line is a message. ID continues a session, or creates one with this id.

    Answers go to standard output, everything else to standard error. /context shows what the model would be sent,
    /compact folds the context, /search WORDS searches the log, /quit (or Ctrl-D) ends the chat. Ctrl-C stops an answer, or
    ends the chat. If the model fails, the error is shown and the chat continues; the exit code is then 1.
    """
    from mnesis.llm.mock import MockLLM
    from mnesis.llm.resolve import is_mock_enabled
    from mnesis.sync import SyncSession

    mock = mock or is_mock_enabled()
    existing = asyncio.run(_find_session(db, session_id))
    model = model or _default_model(existing, mock)
    if mock and model == MOCK_MODEL:
        context_limit = context_limit or MOCK_CONTEXT_LIMIT_TOKENS
    with SyncSession.open(
        model=model,
        system_prompt=system,
        session_id=existing.id if existing else session_id,
        config=config_with_context_limit(db, context_limit),
        db_path=database_path(db),
        llm=MockLLM() if mock else None,
    ) as session:
        chat = _Chat(session, as_jsonl)
        chat.run()
    if chat.failed:
        ctx.exit(PROBLEM_FOUND)


async def _find_session(db: DatabaseOption, session_id: str | None) -> SessionRecord | None:
    if session_id is None:
        return None
    try:
        async with open_engine(db) as engine:
            return await find_session(engine.store, session_id)
    except (NoDatabaseError, SessionNotFoundError):
        return None


def _default_model(existing: SessionRecord | None, mock: bool) -> str:
    from mnesis.models.session import NO_MODEL

    if existing is not None and existing.model != NO_MODEL:
        return existing.model
    if mock:
        return MOCK_MODEL
    raise click.UsageError(
        "no model given; choose one with --model, such as openai/gpt-4o-mini, or use --mock, which needs no API key"
    )


@dataclass
class _Chat:
    """A running chat. `failed` is true if any message got no answer."""

    session: SyncSession
    as_jsonl: bool
    failed: bool = field(default=False, init=False)

    def run(self) -> None:
        """Run until the end of the input, /quit, or Ctrl-C."""
        print_note(f"session {self.session.id}, model {self.session.model}; {_COMMAND_HELP}")
        for line in _read_lines():
            if line.startswith("/") and line[1:].partition(" ")[0].isalpha():
                if line == "/quit":
                    break
                self._run_command(line)
            elif line:
                self._run_turn(line)

    def _run_command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        try:
            match name:
                case "/context":
                    self._show_context()
                case "/compact":
                    print_note(describe_compaction(self.session.compact()))
                    self._show_gauge()
                case "/search" if rest.strip():
                    self._search(rest.strip())
                case _:
                    print_note(_COMMAND_HELP)
        except MnesisError as error:
            print_note(f"mnesis: {error}")

    def _run_turn(self, text: str) -> None:
        streams = sys.stdout.isatty() and not self.as_jsonl
        try:
            result = self.session.send(text, on_part=_print_delta if streams else None)
        except KeyboardInterrupt:
            print_note("\nstopped; your message is stored")
            return
        except MnesisError as error:
            self.failed = True
            print_note(f"mnesis: {error}")
            if self.as_jsonl:
                _print_line(to_json({"user": text, "error_type": type(error).__name__, "error": str(error)}))
            return
        if self.as_jsonl:
            _print_line(to_json(_to_dict(text, result, self.session.context_tokens)))
        else:
            _print_line("" if streams else clean(result.text))
        if result.compaction_result is not None:
            print_note(describe_compaction(result.compaction_result))
        self._show_gauge()

    def _show_gauge(self) -> None:
        tokens, usable = self.session.context_tokens, self.session.budget.usable_tokens
        bar = "".join(gauge_cells([(tokens, "#")], usable, _GAUGE_WIDTH_CHARS)).replace(" ", "·")
        print_note(f"[{bar}] {tokens:,} of {usable:,} tokens ({tokens / usable:.0%})")

    def _show_context(self) -> None:
        from mnesis.concurrency import run

        record = run(self.session.engine.store.session(self.session.id))
        print_window(record, self.session.budget, self.session.window())

    def _search(self, query: str) -> None:
        console, hits = make_console(), self.session.search(query, _MAX_HITS)
        for hit in hits:
            console.print(hit_line(hit))
        if not hits:
            print_note("nothing found")


def _read_lines() -> Iterator[str]:
    """Yield the lines of standard input, typed or piped, without surrounding white space."""
    is_interactive = sys.stdin.isatty()
    if is_interactive:
        with suppress(ImportError):  # missing on some platforms; lines cannot be edited then
            import readline  # noqa: F401  # importing it is what makes lines editable
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        while line := _read_line(is_interactive):
            yield line.strip()
    except KeyboardInterrupt:
        print_note("")


def _read_line(is_interactive: bool) -> str:
    """Read the next line, with its newline. Returns "" at the end of the input."""
    if not is_interactive or not sys.stdout.isatty():
        return sys.stdin.readline()
    try:
        return input("> ") + "\n"
    except EOFError:
        print_note("")
        return ""


def _print_delta(part: MessagePart) -> None:
    if part.type == "text":
        print(clean(part.text), end="", flush=True)


def _print_line(text: str) -> None:
    print(text, flush=True)


def _to_dict(text: str, result: TurnResult, context_tokens: int) -> dict[str, Any]:
    compaction = result.compaction_result
    return {
        "user": text,
        "assistant": result.text,
        "finish_reason": str(result.finish_reason),
        "usage": result.tokens.model_dump(),
        "cost": result.cost,
        "context_tokens": context_tokens,
        "compaction": compaction.model_dump() if compaction is not None else None,
    }
