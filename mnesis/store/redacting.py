"""A store that replaces secrets in everything that is written through it, so that they never reach the disk."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from mnesis.models.context import Cover
from mnesis.models.message import Message, MessagePart, ReasoningPart
from mnesis.models.run import ItemOutcome, MapRun, RunSpec
from mnesis.models.session import Interruption, SessionRecord
from mnesis.redaction import Redaction
from mnesis.store.base import Append, AppendResult, Compaction, Store

_KEPT_FIELDS = frozenset(
    {"type", "id", "tool_call_id", "content_id", "file_type", "media_type", "detail", "state", "kind"}
)
"""Fields of parts that hold identifiers and names of the format."""


def redacting_store(store: Store, redaction: Redaction | None) -> Store:
    """Return a store that redacts writes, or `store` itself without a redaction."""
    return store if redaction is None else cast(Store, _RedactingStore(store, redaction))


class _RedactingStore:
    """The verbs that write, with redaction. All others are those of the inner store."""

    def __init__(self, inner: Store, redaction: Redaction) -> None:
        self._inner = inner
        self._redaction = redaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        redacted = replace(
            session,
            system_prompt=self._redaction.text(session.system_prompt),
            title=self._redaction.text(session.title),
            metadata=self._redaction.data(session.metadata),
        )
        return await self._inner.create_session(redacted)

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        redacted = dict(changes)
        for name in ("system_prompt", "title", "metadata"):
            if name in redacted:
                redacted[name] = self._redaction.data(redacted[name])
        return await self._inner.update_session(session_id, **redacted)

    async def append(self, session_id: str, append: Append) -> AppendResult:
        return await self._inner.append(session_id, self._redact_append(append))

    async def revise(
        self, session_id: str, hidden_spans: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> AppendResult:
        return await self._inner.revise(session_id, hidden_spans, self._redact_append(append), last_seq=last_seq)

    async def replace_covers(
        self, session_id: str, covers: Sequence[Cover], append: Append, *, read_covers: Sequence[Cover], last_seq: int
    ) -> AppendResult:
        return await self._inner.replace_covers(
            session_id, covers, self._redact_append(append), read_covers=read_covers, last_seq=last_seq
        )

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        summaries = tuple(
            summary.model_copy(
                update={
                    "text": self._redaction.text(summary.text),
                    "pointers": tuple(map(self._redaction.text, summary.pointers)),
                }
            )
            for summary in compaction.summaries
        )
        return await self._inner.compact(session_id, replace(compaction, summaries=summaries))

    async def record_interruption(self, session_id: str, interruption: Interruption) -> None:
        redacted = replace(
            interruption,
            error=self._redaction.text(interruption.error),
            partial_text=self._redaction.text(interruption.partial_text),
        )
        await self._inner.record_interruption(session_id, redacted)

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        plan = self._redact_json(spec.plan) if spec.plan else ""
        return await self._inner.begin_run(replace(spec, plan=plan))

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        return await self._inner.add_items(run_id, first_index, [self._redact_json(text) for text in inputs])

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        redacted = [replace(each, outcome=self._redact_json(each.outcome)) for each in outcomes]
        return await self._inner.finish_items(run_id, worker, redacted)

    async def give_up_items(self, run_id: str, *, now_ms: int, max_claims: int, outcome: str) -> list[int]:
        return await self._inner.give_up_items(
            run_id, now_ms=now_ms, max_claims=max_claims, outcome=self._redact_json(outcome)
        )

    def _redact_append(self, append: Append) -> Append:
        return replace(append, messages=[redact_message(message, self._redaction) for message in append.messages])

    def _redact_json(self, text: str) -> str:
        value = json.loads(text)
        redacted = self._redaction.data(value)
        return text if redacted == value else json.dumps(redacted, allow_nan=False)


def redact_message(message: Message, redaction: Redaction) -> Message:
    """Return a message without secrets, the same object if it has none.

    Texts, names, tool arguments and results, and the data of adapters are redacted; so is text that is encoded in base64.
    """
    parts = tuple(_redact_part(part, redaction) for part in message.parts)
    extra = redaction.data(message.extra, kept=_KEPT_FIELDS) if message.extra else message.extra
    if parts == message.parts and extra == message.extra:
        return message
    return message.model_copy(update={"parts": parts, "extra": extra})


def _redact_part(part: MessagePart, redaction: Redaction) -> MessagePart:
    fields = part.model_dump()
    redacted = redaction.data(_redact_encoded(fields, redaction), kept=_KEPT_FIELDS)
    if redacted == fields:
        return part
    if isinstance(part, ReasoningPart):
        redacted["provider"] = None  # because its signature no longer matches the text
    return type(part).model_validate(redacted)


def _redact_encoded(value: Any, redaction: Redaction) -> Any:
    """Redact text that is encoded in base64 in a field `data`, at any depth. Other bytes, such as images, do not change."""
    if isinstance(value, dict):
        return {
            name: _redact_base64(item, redaction)
            if name == "data" and isinstance(item, str)
            else _redact_encoded(item, redaction)
            for name, item in value.items()
        }
    return type(value)(_redact_encoded(item, redaction) for item in value) if isinstance(value, list | tuple) else value


def _redact_base64(encoded: str, redaction: Redaction) -> str:
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        return encoded
    redacted = redaction.text(text)
    return encoded if redacted == text else base64.b64encode(redacted.encode()).decode("ascii")
