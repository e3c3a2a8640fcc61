"""One call of a runnable with memory: store the input, provide the context, store the output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mnesis.interruptions import record_interruption
from langchain_mnesis.runnable_io import StreamAccumulator, input_messages, output_messages
from langchain_mnesis.sessions import Sessions


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
            self.sent_messages = self.sessions.window_to_langchain(self.session_id, visible_records)
            return self._with_messages(value, self.sent_messages)
        history_records = [record for record in visible_records if record.seq not in user_seqs]
        history = self.sessions.window_to_langchain(self.session_id, history_records)
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
        partial_text = accumulator.text(self.keys.output_key, self.sent_messages) if accumulator is not None else ""
        await record_interruption(
            self.sessions.engine.store, self.session_id, error, after_seq=self.last_seq, partial_text=partial_text
        )

    async def _store(self, messages: list[BaseMessage]) -> None:
        if messages:
            await self.sessions.add(self.session_id, messages)

    def _with_messages(self, value: Any, messages: list[BaseMessage]) -> Any:
        if not isinstance(value, dict):
            return messages
        key = self.keys.input_key or (next(iter(value)) if len(value) == 1 else "messages")
        return {**value, key: messages}
