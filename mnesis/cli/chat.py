"""`mnesis chat`: a conversation line by line, with its context in view."""

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
from mnesis.cli.compact import compaction_line
from mnesis.cli.context import limited, print_window
from mnesis.cli.database_option import NoDatabaseError, Place, database_path, db_option, writing
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, console, gauge, note, to_json
from mnesis.cli.search import hit_line
from mnesis.errors import MnesisError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.models.message import MessagePart
    from mnesis.models.results import TurnResult
    from mnesis.models.session import SessionRecord
    from mnesis.sync import SyncSession

MOCK_MODEL = "mock"
MOCK_CONTEXT_LIMIT_TOKENS = 32_768
_GAUGE_WIDTH, _HITS = 30, 5
_COMMANDS = "/context: what the model is sent; /compact: fold it now; /search WORDS; /quit"


@click.command(
    "chat",
    short_help="Talk to a model, with the context in view.",
    epilog="Example: mnesis chat --mock",
)
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("--model", metavar="MODEL", help="As litellm takes it: openai/gpt-4o-mini, ollama/llama3, ...")
@click.option("--mock", is_flag=True, help="Let a stand-in answer that needs no key.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "--context-limit", type=click.IntRange(min=256), metavar="TOKENS", help="The model's window, if known better."
)
@click.option("--jsonl", "as_lines", is_flag=True, help="Print each turn as one line of JSON.")
@db_option
@click.pass_context
def command(
    ctx: click.Context, session_id: str | None, model: str | None, mock: bool, system: str | None,
    context_limit: int | None, as_lines: bool, db: Place,
) -> None:  # fmt: skip
    """Talk to a model; each line is a message. ID goes on with a session, or begins one of this name.

    Answers go to standard output, everything else to standard error. /context shows what the model would be sent,
    /compact folds it, /search WORDS looks into the log, /quit (or Ctrl-D) ends; Ctrl-C ends too, or breaks off an answer.
    A model that fails is told of, and the chat goes on; exit code 1 if any message got no answer.
    """
    from mnesis.llm.mock import MockLLM
    from mnesis.llm.resolve import mock_is_on
    from mnesis.sync import SyncSession

    mock = mock or mock_is_on()
    existing = asyncio.run(_existing(db, session_id))
    model = model or _default_model(existing, mock)
    if mock and model == MOCK_MODEL:
        context_limit = context_limit or MOCK_CONTEXT_LIMIT_TOKENS
    with SyncSession.open(
        model=model,
        system_prompt=system,
        session_id=existing.id if existing else session_id,
        config=limited(db, context_limit),
        db_path=database_path(db),
        llm=MockLLM() if mock else None,
    ) as session:
        chat = _Chat(session, as_lines)
        chat.run()
    if chat.failed:
        ctx.exit(PROBLEM_FOUND)


async def _existing(db: Place, session_id: str | None) -> SessionRecord | None:
    if session_id is None:
        return None
    try:
        async with writing(db) as engine:
            return await find_session(engine.store, session_id)
    except (NoDatabaseError, SessionNotFoundError):
        return None


def _default_model(existing: SessionRecord | None, mock: bool) -> str:
    from mnesis.models.session import NO_MODEL

    if existing is not None and existing.model != NO_MODEL:
        return existing.model
    if mock:
        return MOCK_MODEL
    raise click.UsageError("name a model with --model, such as openai/gpt-4o-mini, or try --mock, which needs no key")


@dataclass
class _Chat:
    """A chat under way. `failed`: a message got no answer."""

    session: SyncSession
    as_lines: bool
    failed: bool = field(default=False, init=False)

    def run(self) -> None:
        """Until the end of the input, /quit, or Ctrl-C."""
        note(f"session {self.session.id}, model {self.session.model}; {_COMMANDS}")
        for line in _lines():
            if line.startswith("/") and line[1:].partition(" ")[0].isalpha():
                if line == "/quit":
                    break
                self._command(line)
            elif line:
                self._turn(line)

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        try:
            match name:
                case "/context":
                    self._show_context()
                case "/compact":
                    note(compaction_line(self.session.compact()))
                    self._show_gauge()
                case "/search" if rest.strip():
                    self._search(rest.strip())
                case _:
                    note(_COMMANDS)
        except MnesisError as error:
            note(f"mnesis: {error}")

    def _turn(self, text: str) -> None:
        streams = sys.stdout.isatty() and not self.as_lines
        try:
            result = self.session.send(text, on_part=_print_piece if streams else None)
        except KeyboardInterrupt:
            note("\nbroken off; the message is kept")
            return
        except MnesisError as error:
            self.failed = True
            note(f"mnesis: {error}")
            if self.as_lines:
                _put(to_json({"user": text, "error_type": type(error).__name__, "error": str(error)}))
            return
        if self.as_lines:
            _put(to_json(_facts(text, result, self.session.context_tokens)))
        else:
            _put("" if streams else clean(result.text))
        if result.compaction_result is not None:
            note(compaction_line(result.compaction_result))
        self._show_gauge()

    def _show_gauge(self) -> None:
        tokens, usable = self.session.context_tokens, self.session.budget.usable_tokens
        bar = "".join(gauge([(tokens, "#")], usable, _GAUGE_WIDTH)).replace(" ", "·")
        note(f"[{bar}] {tokens:,} of {usable:,} tokens ({tokens / usable:.0%})")

    def _show_context(self) -> None:
        from mnesis.concurrency import run

        record = run(self.session.engine.store.session(self.session.id))
        print_window(record, self.session.budget, self.session.window())

    def _search(self, words: str) -> None:
        screen, hits = console(), self.session.search(words, _HITS)
        for hit in hits:
            screen.print(hit_line(hit))
        if not hits:
            note("nothing found")


def _lines() -> Iterator[str]:
    """What is typed, or piped in, line by line, without surrounding white space."""
    typed = sys.stdin.isatty()
    if typed:
        with suppress(ImportError):  # not everywhere; lines can then not be edited
            import readline  # noqa: F401  # importing it is what makes lines editable
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        while line := _line(typed):
            yield line.strip()
    except KeyboardInterrupt:
        note("")


def _line(typed: bool) -> str:
    """The next line with its end; "" at the end of the input."""
    if not typed or not sys.stdout.isatty():
        return sys.stdin.readline()
    try:
        return input("> ") + "\n"
    except EOFError:
        note("")
        return ""


def _print_piece(part: MessagePart) -> None:
    if part.type == "text":
        print(clean(part.text), end="", flush=True)


def _put(text: str) -> None:
    print(text, flush=True)


def _facts(text: str, result: TurnResult, context_tokens: int) -> dict[str, Any]:
    done = result.compaction_result
    return {
        "user": text,
        "assistant": result.text,
        "finish_reason": str(result.finish_reason),
        "usage": result.tokens.model_dump(),
        "cost": result.cost,
        "context_tokens": context_tokens,
        "compaction": done.model_dump() if done is not None else None,
    }
