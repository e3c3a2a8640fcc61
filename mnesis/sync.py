"""The synchronous door: the one module that knows threads and loops.

One event loop in a background thread serves every synchronous call of the process. Calls work from a plain thread, inside
a running loop (a notebook), from many threads at once; called from that very thread they raise instead of waiting for
themselves. The thread is a daemon: a process that never closes anything still exits. A forked child gets its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from mnesis.concurrency import run
from mnesis.config import MnesisConfig
from mnesis.display.panel import Panel
from mnesis.display.shown import Shown
from mnesis.engine.engine import Engine
from mnesis.events.bus import EventBus, Handler, MnesisEvent, Unsubscribe
from mnesis.files.grep import FileMatches
from mnesis.files.handler import LargeFileHandler
from mnesis.files.paging import MAX_CHARS, MAX_LINES, FilePage
from mnesis.formats.parse import Content
from mnesis.models.context import Budget, Window
from mnesis.models.dag import SummaryDag
from mnesis.models.message import Message, Role
from mnesis.models.results import (
    CompactionResult,
    Description,
    Expansion,
    RecordResult,
    TextDelta,
    TurnComplete,
    TurnResult,
    TurnSnapshot,
)
from mnesis.models.search import GrepPage, SearchMode, SearchPage
from mnesis.models.session import Interruption
from mnesis.models.summary import Summary
from mnesis.models.timeline import Timeline
from mnesis.models.tool import ToolSpec
from mnesis.models.usage import TokenUsage
from mnesis.recall.grants import Grant
from mnesis.recall.grep import TIMEOUT_SECONDS
from mnesis.session.session import MnesisSession
from mnesis.session.turn import OnPart

T = TypeVar("T")


class SyncSession(Shown):
    """`MnesisSession` for code without `await`: the same methods, with the same meaning, waiting for their result."""

    def __init__(self, session: MnesisSession) -> None:
        self._session = session

    @classmethod
    @contextmanager
    def open(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> Iterator[SyncSession]:
        """Create a session, or open the one named `session_id`, and close it at the end of the block."""
        session = cls.create(
            model=model,
            system_prompt=system_prompt,
            session_id=session_id,
            agent=agent,
            parent_id=parent_id,
            config=config,
            db_path=db_path,
            engine=engine,
            llm=llm,
        )
        try:
            yield session
        finally:
            session.close()

    @classmethod
    def create(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> SyncSession:
        """Create a session, or open the one named `session_id`."""
        return cls(
            run(
                MnesisSession.create(
                    model=model,
                    system_prompt=system_prompt,
                    session_id=session_id,
                    agent=agent,
                    parent_id=parent_id,
                    config=config,
                    db_path=db_path,
                    engine=engine,
                    llm=llm,
                )
            )
        )

    @classmethod
    def load(
        cls,
        session_id: str,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        *,
        engine: Engine | None = None,
        llm: object | None = None,
        model: str | None = None,
    ) -> SyncSession:
        """Open a session that exists."""
        return cls(run(MnesisSession.load(session_id, config, db_path, engine=engine, llm=llm, model=model)))

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def model(self) -> str:
        return self._session.model

    @property
    def system_prompt(self) -> str:
        return self._session.system_prompt

    @property
    def agent(self) -> str:
        return self._session.agent

    @property
    def parent_id(self) -> str | None:
        return self._session.parent_id

    @property
    def config(self) -> MnesisConfig:
        return self._session.config

    @property
    def engine(self) -> Engine:
        return self._session.engine

    @property
    def budget(self) -> Budget:
        return self._session.budget

    @property
    def context_tokens(self) -> int:
        return self._session.context_tokens

    @property
    def token_usage(self) -> TokenUsage:
        return self._session.token_usage

    @property
    def cost(self) -> float:
        return self._session.cost

    @property
    def compaction_in_progress(self) -> bool:
        return self._session.compaction_in_progress

    @property
    def files(self) -> LargeFileHandler:
        return self._session.files

    @property
    def event_bus(self) -> EventBus:
        return self._session.event_bus

    def send(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
    ) -> TurnResult:
        """Send a message and get the answer, stored both."""
        return run(
            self._session.send(
                message, tools=tools, on_part=on_part, system_prompt=system_prompt, llm_options=llm_options
            )
        )

    def stream(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
    ) -> Iterator[TextDelta | TurnComplete]:
        """`send()`, with its deltas as they arrive. Whoever stops listening does not stop the turn."""
        events = self._session.stream(message, tools=tools, system_prompt=system_prompt, llm_options=llm_options)
        try:
            while (event := run(_next(events))) is not None:
                yield event
        finally:
            run(_closed(events))

    def record(
        self,
        user_message: Content,
        assistant_response: Content,
        *,
        tokens: TokenUsage | None = None,
        finish_reason: str = "stop",
        cost: float = 0.0,
        user_message_id: str | None = None,
        assistant_message_id: str | None = None,
        created_at: int | None = None,
    ) -> RecordResult:
        """Store a turn that was made elsewhere."""
        return run(
            self._session.record(
                user_message,
                assistant_response,
                tokens=tokens,
                finish_reason=finish_reason,
                cost=cost,
                user_message_id=user_message_id,
                assistant_message_id=assistant_message_id,
                created_at=created_at,
            )
        )

    def append(
        self, messages: Sequence[Message], *, tokens: TokenUsage | None = None, ends_turn: bool = False
    ) -> list[Message]:
        """Store messages as they are, in one transaction."""
        return run(self._session.append(messages, tokens=tokens, ends_turn=ends_turn))

    def messages(self, *, include_summaries: bool = False) -> list[Message]:
        """The log."""
        return run(self._session.messages(include_summaries=include_summaries))

    def conversation_messages(self) -> list[Message]:
        """The log without any summaries."""
        return run(self._session.conversation_messages())

    def iter_messages(self, *, after_seq: int = 0, page: int = 500) -> Iterator[Message]:
        """The log, read `page` messages at a time."""
        messages = self._session.iter_messages(after_seq=after_seq, page=page)
        while (message := run(_next(messages))) is not None:
            yield message

    def message(self, message_id: str) -> Message:
        """One message of the log, whole."""
        return run(self._session.message(message_id))

    def window(
        self,
        *,
        system_prompt: str | None = None,
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        message: str | None = None,
    ) -> Window:
        """What the model would be sent now, as values."""
        return run(
            self._session.window(
                system_prompt=system_prompt,
                reserved_tokens=reserved_tokens,
                budget_tokens=budget_tokens,
                message=message,
            )
        )

    def context_for_next_turn(
        self,
        system_prompt: str | None = None,
        *,
        provider: Literal["openai", "anthropic"] = "openai",
        message: str | None = None,
    ) -> list[dict[str, Any]]:
        """The window as messages for your own client, without the system prompt."""
        return run(self._session.context_for_next_turn(system_prompt, provider=provider, message=message))

    def compact(self) -> CompactionResult:
        """Fold everything but the two newest user turns now."""
        return run(self._session.compact())

    def hide(self, first_seq: int, last_seq: int) -> None:
        """Take a span of messages out of the active context; the log keeps them."""
        run(self._session.hide(first_seq, last_seq))

    def revise(self, *, hide: Sequence[tuple[int, int]], messages: Sequence[Message], last_seq: int) -> list[Message]:
        """Take spans out of the active context and append messages, in one transaction."""
        return run(self._session.revise(hide=hide, messages=messages, last_seq=last_seq))

    def start_epoch(self) -> None:
        """Begin with an empty context; the log keeps everything."""
        run(self._session.start_epoch())

    def history(self) -> list[TurnSnapshot]:
        """A snapshot of the context after each turn."""
        return self._session.history()

    def compactions(self) -> list[CompactionResult]:
        """Every compaction of this session, oldest first."""
        return run(self._session.compactions())

    def interruptions(self) -> list[Interruption]:
        """Model calls that gave no answer."""
        return run(self._session.interruptions())

    def summaries(self) -> list[Summary]:
        """Every summary ever made, children before parents."""
        return run(self._session.summaries())

    def dag(self) -> SummaryDag:
        """Every summary with those it was made of, and which stand in the context now."""
        return run(self._session.dag())

    def timeline(self) -> Timeline:
        """The size of the context after each turn, compactions and thresholds."""
        return run(self._session.timeline())

    def search(
        self,
        query: str,
        limit: int = 10,
        *,
        cursor: str | None = None,
        mode: SearchMode = "words",
        role: Role | None = None,
        tool: str | None = None,
        after: int | None = None,
        before: int | None = None,
        summary_id: str | None = None,
        neighbours: int = 0,
    ) -> SearchPage:
        """Originals that a question asks for, best first."""
        return run(
            self._session.search(
                query,
                limit,
                cursor=cursor,
                mode=mode,
                role=role,
                tool=tool,
                after=after,
                before=before,
                summary_id=summary_id,
                neighbours=neighbours,
            )
        )

    def grep(
        self,
        pattern: str,
        summary_id: str | None = None,
        *,
        ignore_case: bool = False,
        limit: int = 50,
        cursor: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> GrepPage:
        """Every match of a regular expression in the log, grouped by the summary that covers it now."""
        return run(
            self._session.grep(
                pattern,
                summary_id,
                ignore_case=ignore_case,
                limit=limit,
                cursor=cursor,
                timeout_seconds=timeout_seconds,
            )
        )

    def recall_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """`lcm_grep`, `lcm_describe` and `lcm_expand` for this session; their handlers are asynchronous."""
        return self._session.recall_tools(grant)

    def file_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """`lcm_read_file` and `lcm_search_file` for this session's files; their handlers are asynchronous."""
        return self._session.file_tools(grant)

    def read_file(
        self,
        content_id: str,
        *,
        line: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        max_chars: int = MAX_CHARS,
        max_lines: int = MAX_LINES,
    ) -> FilePage:
        """A stretch of a stored file."""
        return run(
            self._session.read_file(
                content_id, line=line, offset=offset, cursor=cursor, max_chars=max_chars, max_lines=max_lines
            )
        )

    def search_file(
        self,
        content_id: str,
        pattern: str,
        *,
        ignore_case: bool = False,
        limit: int = 50,
        cursor: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> FileMatches:
        """The lines of a stored file that match a regular expression."""
        return run(
            self._session.search_file(
                content_id,
                pattern,
                ignore_case=ignore_case,
                limit=limit,
                cursor=cursor,
                timeout_seconds=timeout_seconds,
            )
        )

    def file_path(self, content_id: str) -> Path:
        """Where the bytes of a stored file are, once they were checked."""
        return run(self._session.file_path(content_id))

    def pin(self, message_id: str) -> None:
        """Keep a message in the context verbatim, whatever is folded."""
        run(self._session.pin(message_id))

    def pin_fact(self, fact: str) -> Message:
        """Add a fact to the conversation and pin it."""
        return run(self._session.pin_fact(fact))

    def unpin(self, message_id: str) -> None:
        """Let a message be folded again."""
        run(self._session.unpin(message_id))

    def pins(self) -> list[Message]:
        """The pinned messages, in order."""
        return run(self._session.pins())

    def expand(
        self,
        summary_id: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        children: bool = False,
        max_tokens: int | None = None,
    ) -> Expansion:
        """The originals behind a summary."""
        return run(
            self._session.expand(summary_id, cursor=cursor, limit=limit, children=children, max_tokens=max_tokens)
        )

    def describe(self, id: str) -> Description:
        """What an id names in this session."""
        return run(self._session.describe(id))

    def subscribe(self, event: MnesisEvent, handler: Handler) -> Unsubscribe:
        """Call `handler(event, payload)` for this session's events of this kind."""
        return self._session.subscribe(event, handler)

    def subscribe_all(self, handler: Handler) -> Unsubscribe:
        """Call `handler` for every event of this session."""
        return self._session.subscribe_all(handler)

    def unsubscribe(self, event: MnesisEvent, handler: Handler) -> None:
        """End a subscription; quiet if there is none."""
        self._session.unsubscribe(event, handler)

    def close(self) -> None:
        """Wait for turns and compactions that are under way, then release the database."""
        run(self._session.close())

    def __enter__(self) -> SyncSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._session).replace("MnesisSession", "SyncSession", 1)

    def _panel(self) -> Panel:
        return replace(self._session._panel(), title=f"SyncSession {self.id}")


async def _next(items: Any) -> Any:
    return await anext(items, None)


async def _closed(items: Any) -> None:
    await items.aclose()
