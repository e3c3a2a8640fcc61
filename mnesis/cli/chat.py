"""`mnesis chat`: an interactive conversation that shows its context."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.app import PROBLEM_FOUND
from mnesis.cli.chat_input import read_messages
from mnesis.cli.compact import describe_compaction
from mnesis.cli.context import config_with_context_limit, print_window
from mnesis.cli.database_option import DatabaseOption, NoDatabaseError, database_path, db_option, open_engine
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import StreamWrapper, clean, clean_line, gauge_cells, make_console, one_line, print_note, to_json
from mnesis.cli.search import hit_line
from mnesis.errors import MnesisError, NothingToRetryError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.events.bus import MnesisEvent
    from mnesis.models.message import MessagePart
    from mnesis.models.results import TurnResult
    from mnesis.models.session import SessionRecord
    from mnesis.sync import SyncSession

MOCK_CONTEXT_LIMIT_TOKENS = 32_768
_GAUGE_WIDTH_CHARS, _MAX_HITS = 30, 5
COMMAND_HELP = {
    "/context": "show what the model is sent",
    "/compact": "fold the context now",
    "/search WORDS": "search the log",
    "/undo": "take the newest turn out of the context; the log keeps it",
    "/retry": "continue a turn that failed or was stopped",
    "/quit": "end the chat",
}
_COMMAND_HELP = "; ".join(f"{name}: {meaning}" for name, meaning in COMMAND_HELP.items())


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

    A line that ends with a backslash continues in the next one; lines between two lines of three quotation marks are one
    message. Answers go to standard output, everything else to standard error: calls of tools, compactions, and after each
    answer the size of the context, the tokens, the share that came from the provider's cache, and the cost.

    /context shows what the model would be sent, /compact folds the context, /search WORDS searches the log, /undo takes the
    newest turn out of the context, /retry continues a turn that failed or was stopped, /quit (or Ctrl-D) ends the chat.
    Ctrl-C stops an answer, or ends the chat. If the model fails, the error is shown and the chat continues; the exit code is
    then 1.
    """
    from mnesis.llm.mock import MockLLM
    from mnesis.llm.resolve import is_mock_enabled
    from mnesis.models.session import MOCK_MODEL
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
    from mnesis.models.session import MOCK_MODEL, NO_MODEL

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
    _streams: bool = field(default=False, init=False)
    _wrapper: StreamWrapper = field(default_factory=lambda: StreamWrapper(80), init=False)
    failed: bool = field(default=False, init=False)
    _notices: deque[str] = field(default_factory=deque, init=False)
    """Events of the background, to be shown before the next prompt."""

    def run(self) -> None:
        """Run until the end of the input, /quit, or Ctrl-C."""
        print_note(f"session {clean_line(self.session.id)}, model {clean_line(self.session.model)}; {_COMMAND_HELP}")
        self.session.subscribe_all(self._collect_notice)
        for line in read_messages():
            self._print_notices()
            if line.startswith("/") and line[1:].partition(" ")[0].isalpha():
                if line == "/quit":
                    break
                self._run_command(line)
            elif line:
                self._run_turn(line)
            self._print_notices()

    def _collect_notice(self, event: MnesisEvent, payload: Any) -> None:
        """Store a line about an event that a person should see. Called in other threads."""
        match str(event):
            case "compaction.completed":
                self._notices.append(describe_compaction(payload.result))
            case "compaction.failed":
                self._notices.append(f"a compaction failed, the context is unchanged: {one_line(payload.error, 300)}")
            case "llm.retry":
                wait = f"{payload.delay_seconds:.0f} s"
                self._notices.append(
                    f"{payload.error_type}; trying again in {wait}: {one_line(payload.error_message, 200)}"
                )

    def _print_notices(self) -> None:
        while self._notices:
            print_note(self._notices.popleft())

    def _run_command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        try:
            match name:
                case "/context":
                    self._show_context()
                case "/compact":
                    result = self.session.compact()
                    if not result.level_used and not result.pruned_tool_outputs:
                        print_note(describe_compaction(result))
                    self._print_notices()
                    self._show_gauge()
                case "/search" if rest.strip():
                    self._search(rest.strip())
                case "/undo":
                    self._undo()
                case "/retry":
                    self._run_turn(None)
                case _:
                    print_note(_explain_mistake(name))
        except MnesisError as error:
            print_note(f"mnesis: {error}")

    def _run_turn(self, text: str | None) -> None:
        """Send a message, or without one continue the newest turn, and print the answer."""
        self._streams = sys.stdout.isatty() and not self.as_jsonl
        self._wrapper = StreamWrapper(make_console().width)
        try:
            result = (
                self.session.retry(on_part=self._show_part)
                if text is None
                else self.session.send(text, on_part=self._show_part)
            )
        except KeyboardInterrupt:
            print_note("\nstopped; your message is stored, /retry continues")
            return
        except NothingToRetryError as error:
            print_note(f"mnesis: {error}")
            return
        except MnesisError as error:
            self.failed = True
            self._print_notices()
            print_note(f"mnesis: {error}")
            if self.as_jsonl:
                _print_line(to_json({"user": text, "error_type": type(error).__name__, "error": str(error)}))
            return
        if self.as_jsonl:
            _print_line(to_json(_to_dict(text, result, self.session.context_tokens)))
        else:
            _print_line(self._wrapper.flush() if self._streams else clean(result.text))
        self._print_notices()
        print_note(self._describe_usage(result))
        self._show_gauge()

    def _show_part(self, part: MessagePart) -> None:
        """Show a part of the reply as it arrives: text on a terminal, and the calls of tools."""
        if part.type == "text" and self._streams:
            print(self._wrapper.feed(clean(part.text)), end="", flush=True)
        elif part.type == "tool":
            self._notices.append(f"→ {clean_line(part.tool_name)}({one_line(to_json(part.input), 160)})")
            self._print_notices()

    def _describe_usage(self, result: TurnResult) -> str:
        """Return the line about tokens, cache and cost of a turn and of the session."""
        usage = result.tokens
        cached = f" ({usage.cached_fraction:.0%} from the cache)" if usage.cache_read else ""
        cost = f"; ${result.cost:.4f}, session ${self.session.cost:.4f}" if self.session.cost else ""
        return f"{usage.request_tokens:,} tokens in{cached}, {usage.output:,} out{cost}"

    def _undo(self) -> None:
        """Take the newest turn out of the context."""
        from mnesis.concurrency import run
        from mnesis.models.message import Message

        store, session_id = self.session.engine.store, self.session.id
        context = run(store.active_context(session_id))
        users = [
            item for item in context.items if isinstance(item, Message) and item.role == "user" and not item.is_summary
        ]
        if not users:
            print_note("there is no turn to take out of the context")
            return
        self.session.hide(users[-1].seq, run(store.session(session_id)).last_seq)
        print_note(f"taken out of the context: {one_line(users[-1].text_content(), 80)}; the log keeps it")
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


def _explain_mistake(name: str) -> str:
    """Return the message for a command that does not exist or lacks its argument."""
    names = [command.split()[0] for command in COMMAND_HELP]
    if name in names:
        return _COMMAND_HELP
    close = get_close_matches(name, names, n=1)
    return f"there is no command {name}; {f'did you mean {close[0]}?' if close else _COMMAND_HELP}"


def _print_line(text: str) -> None:
    print(text, flush=True)


def _to_dict(text: str | None, result: TurnResult, context_tokens: int) -> dict[str, Any]:
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
