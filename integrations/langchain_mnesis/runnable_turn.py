"""One call of a runnable with memory: store what is asked, give it its context, store what came of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mnesis.runnable_io import Gathered, input_messages, output_messages
from langchain_mnesis.sessions import Sessions
from mnesis.errors import MnesisStoreError
from mnesis.ids import now_ms
from mnesis.models.session import Interruption

logger = logging.getLogger(__name__)

CANCELLED = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a runnable has its messages: keys of dict inputs and outputs, None where the default is meant."""

    input_key: str | None = None
    history_key: str | None = None
    output_key: str | None = None


@dataclass
class MemoryTurn:
    """The state of one call. `given` are the messages the runnable was called with, `last_seq` the user's last."""

    sessions: Sessions
    session_id: str
    shape: Shape
    given: list[BaseMessage] = field(default_factory=list)
    last_seq: int = 0

    async def begin(self, value: Any) -> Any:
        """Store the user's messages; the value to call the runnable with."""
        asked = input_messages(value, self.shape.input_key)
        stored = await self.sessions.add(self.session_id, asked)
        window = await self.sessions.window(self.session_id)
        shown = window.messages if window is not None else ()
        self.last_seq = max((record.seq for record in stored), default=max((r.seq for r in shown), default=0))
        # Turns of other calls that were stored after this one are theirs to answer.
        shown = tuple(record for record in shown if record.seq <= self.last_seq)
        own = {record.seq for record in stored}
        if self.shape.history_key is None or not isinstance(value, dict):
            self.given = self.sessions.messages(shown)
            return self._filled(value, self.given)
        history = self.sessions.messages(record for record in shown if record.seq not in own)
        self.given = [*history, *asked]
        return {**value, self.shape.history_key: history}

    async def finish(self, output: Any) -> None:
        """Store what the runnable gave."""
        await self._store(output_messages(output, self.shape.output_key, self.given))

    async def finish_stream(self, gathered: Gathered) -> None:
        """Store what the runnable gave piece by piece."""
        await self._store(gathered.messages(self.shape.output_key, self.given))

    async def interrupted(self, error: BaseException, gathered: Gathered | None = None) -> None:
        """Note that there is no whole answer, and what there is of it. The error stays the one the caller sees."""
        kind = type(error).__name__
        partial = gathered.text(self.shape.output_key, self.given) if gathered is not None else ""
        note = Interruption(
            after_seq=self.last_seq,
            kind="cancelled" if kind in CANCELLED else "failed",
            error_type=kind,
            error=str(error) or ("the stream was closed before its end" if kind == "GeneratorExit" else kind),
            partial_text=partial,
            created_at=now_ms(),
        )
        try:
            await self.sessions.engine.store.interrupted(self.session_id, note)
        except MnesisStoreError as failure:
            logger.exception("session %s: the interrupted call could not be noted", self.session_id)
            error.add_note(f"mnesis could not note the interrupted call: {failure}")

    async def _store(self, messages: list[BaseMessage]) -> None:
        if messages:
            await self.sessions.add(self.session_id, messages)

    def _filled(self, value: Any, messages: list[BaseMessage]) -> Any:
        if not isinstance(value, dict):
            return messages
        key = self.shape.input_key or (next(iter(value)) if len(value) == 1 else "messages")
        return {**value, key: messages}
