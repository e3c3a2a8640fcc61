"""One call of a runnable with memory: store the input, provide the context, store the output."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mnesis.runnable_io import StreamAccumulator, input_messages, output_messages
from langchain_mnesis.sessions import Sessions
from mnesis.errors import MnesisStoreError
from mnesis.ids import now_ms
from mnesis.models.session import Interruption

logger = logging.getLogger(__name__)

CANCELLATION_ERRORS = ("CancelledError", "GeneratorExit", "KeyboardInterrupt")
"""Names of the exceptions that mean that the caller stopped the call, rather than that it failed."""


@dataclass(frozen=True, slots=True)
class RunnableKeys:
    """The keys of messages in a runnable's dict inputs and outputs. None means the default key."""

    input_key: str | None = None
    history_key: str | None = None
    output_key: str | None = None


@dataclass
class MemoryTurn:
    """The progress of one call.

    `sent_messages` are the messages that the runnable was called with. `last_seq` is the seq of the last user message.
    """

    sessions: Sessions
    session_id: str
    keys: RunnableKeys
    sent_messages: list[BaseMessage] = field(default_factory=list)
    last_seq: int = 0

    async def begin(self, value: Any) -> Any:
        """Store the user's messages and return the value to call the runnable with."""
        user_messages = input_messages(value, self.keys.input_key)
        user_records = await self.sessions.add(self.session_id, user_messages)
        window = await self.sessions.window(self.session_id)
        visible_records = window.messages if window is not None else ()
        self.last_seq = max(
            (record.seq for record in user_records), default=max((r.seq for r in visible_records), default=0)
        )
        # Messages stored after this call's own belong to other calls, which answer them.
        visible_records = tuple(record for record in visible_records if record.seq <= self.last_seq)
        user_seqs = {record.seq for record in user_records}
        if self.keys.history_key is None or not isinstance(value, dict):
            self.sent_messages = self.sessions.to_langchain(visible_records)
            return self._with_messages(value, self.sent_messages)
        history = self.sessions.to_langchain(record for record in visible_records if record.seq not in user_seqs)
        self.sent_messages = [*history, *user_messages]
        return {**value, self.keys.history_key: history}

    async def finish(self, output: Any) -> None:
        """Store the runnable's output."""
        await self._store(output_messages(output, self.keys.output_key, self.sent_messages))

    async def finish_stream(self, accumulator: StreamAccumulator) -> None:
        """Store the runnable's streamed output."""
        await self._store(accumulator.messages(self.keys.output_key, self.sent_messages))

    async def record_interruption(self, error: BaseException, accumulator: StreamAccumulator | None = None) -> None:
        """Record that the call did not complete, with its partial text.

        Does not raise if the store fails, so that the caller gets the original error. The failure is logged and added
        to `error` as a note.
        """
        error_type = type(error).__name__
        partial_text = accumulator.text(self.keys.output_key, self.sent_messages) if accumulator is not None else ""
        interruption = Interruption(
            after_seq=self.last_seq,
            kind="cancelled" if error_type in CANCELLATION_ERRORS else "failed",
            error_type=error_type,
            error=str(error)
            or ("the stream was closed before its end" if error_type == "GeneratorExit" else error_type),
            partial_text=partial_text,
            created_at=now_ms(),
        )
        try:
            await self.sessions.engine.store.record_interruption(self.session_id, interruption)
        except MnesisStoreError as failure:
            logger.exception("session %s: the interrupted call could not be recorded", self.session_id)
            error.add_note(f"mnesis could not record the interrupted call: {failure}")

    async def _store(self, messages: list[BaseMessage]) -> None:
        if messages:
            await self.sessions.add(self.session_id, messages)

    def _with_messages(self, value: Any, messages: list[BaseMessage]) -> Any:
        if not isinstance(value, dict):
            return messages
        key = self.keys.input_key or (next(iter(value)) if len(value) == 1 else "messages")
        return {**value, key: messages}
