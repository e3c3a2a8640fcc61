"""Storing LangChain messages in a log: new ones are appended, known ones skipped, edited ones superseded.

A message is identified by its id; a message without an id is always new. A known id with different content is a new
revision: it is appended, and the earlier version is hidden from the view. The log keeps both. A removal only changes
the view.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage

from langchain_mnesis.messages.convert import (
    from_record,
    is_same_message,
    langchain_id,
    log_id,
    original,
    payload,
    redact_messages,
    to_record,
)
from mnesis.errors import (
    ConfigurationError,
    DuplicateIDError,
    InvalidMessageError,
    MessageNotFoundError,
    StaleContextError,
)
from mnesis.ids import new_id
from mnesis.models.context import ActiveContext, Cover, find_cover
from mnesis.models.message import Message
from mnesis.models.usage import TokenUsage
from mnesis.session.session import MnesisSession

REMOVE_ALL = "__remove_all__"
"""The id of LangGraph's message that removes all others."""
MAX_ATTEMPTS = 20
"""Attempts to append while other writers store messages with the same ids. Each one plans from the current log."""


async def store_messages(
    session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None = None
) -> list[Message]:
    """Store messages in order and return those that were appended.

    Messages between two removals are stored in one transaction. `origin` is stored with each message.

    Raises `InvalidMessageError` if a value is not a LangChain message, and the store's errors.
    """
    for message in messages:
        if not isinstance(message, BaseMessage):
            raise InvalidMessageError(
                f"{str(message)[:80]!r} ({type(message).__name__}) is not a LangChain message; pass BaseMessage objects"
            )
    stored: list[Message] = []
    for removals, group in groupby(messages, key=lambda message: isinstance(message, RemoveMessage)):
        if removals:
            await _remove(session, [str(message.id) for message in group])
        else:
            stored += await _append(session, redact_messages(session, list(group)), origin)
    return stored


@dataclass
class _AppendPlan:
    """The records that an append will store, and the records, stored or new, that it will hide."""

    origin: str | None = None
    new_records: list[Message] = field(default_factory=list)
    superseded: list[Message] = field(default_factory=list)


async def _append(session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None) -> list[Message]:
    for attempt in range(MAX_ATTEMPTS):
        plan = await _plan_append(session, messages, origin)
        try:
            stored = await session.append(
                plan.new_records, tokens=last_usage(plan.new_records), ends_turn=ends_turn(messages)
            )
        except DuplicateIDError:  # another writer stored one of the messages after the plan was made
            if attempt == MAX_ATTEMPTS - 1:
                raise
            continue
        await hide_seqs(session, _seqs(plan.superseded, stored))
        await pin_instructions(session, stored)
        return stored
    return []


async def pin_instructions(session: MnesisSession, stored: Iterable[Message]) -> None:
    """Pin system messages, which are instructions, as far as the limit for pinned messages allows."""
    for record in stored:
        if record.role == "system":
            try:
                await session.pin(record.id)
            except (ConfigurationError, StaleContextError):  # the pins are at their limit, or the message is folded
                return


def _seqs(superseded: Iterable[Message], stored: Iterable[Message]) -> list[int]:
    new_seqs = {record.id: record.seq for record in stored}
    return [record.seq or new_seqs[record.id] for record in superseded]


def last_usage(records: Sequence[Message]) -> TokenUsage | None:
    """Return the newest usage that a provider reported with these records; None if there is none."""
    return next((record.tokens for record in reversed(records) if record.tokens is not None), None)


def ends_turn(messages: Sequence[BaseMessage]) -> bool:
    """Return whether the last of these messages completes a turn."""
    last = messages[-1]
    return isinstance(last, AIMessage) and not last.tool_calls


async def _plan_append(session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None) -> _AppendPlan:
    plan, context = _AppendPlan(origin), None
    for message in messages:
        message_id = log_id(message)
        known = await _find_known(session, message_id, plan)
        if known is None:
            plan.new_records.append(to_record(message, origin=origin))
            continue
        context = context or await session.engine.store.active_context(session.id)
        await _plan_revision(session, plan, context, message, known)
    return plan


async def _find_known(session: MnesisSession, message_id: str | None, plan: _AppendPlan) -> Message | None:
    if message_id is None:
        return None
    pending_record = next((record for record in plan.new_records if record.id == message_id), None)
    return pending_record or await _find_message(session, message_id)


async def _find_message(session: MnesisSession, message_id: str) -> Message | None:
    try:
        return await session.message(message_id)
    except MessageNotFoundError:
        return None


async def _plan_revision(
    session: MnesisSession, plan: _AppendPlan, context: ActiveContext, message: BaseMessage, known: Message
) -> None:
    superseded_ids = {record.id for record in plan.superseded}
    visible_record = _find_in_view(
        known.id, (item for item in [*context.items, *plan.new_records] if item.id not in superseded_ids)
    )
    if visible_record is not None:
        if _is_same(visible_record, message, plan):
            return
        plan.superseded.append(visible_record)
    new_version_id = revision_id(known.id, message)
    candidates = [record for record in (known, await _find_message(session, new_version_id)) if record is not None]
    if visible_record is None and any(
        _is_summarised(record, context) and _is_same(record, message, plan) for record in candidates
    ):
        return
    is_id_taken = len(candidates) == 2 or any(record.id == new_version_id for record in plan.new_records)
    record = to_record(message, id=new_version_id, origin=plan.origin)
    plan.new_records.append(record.model_copy(update={"id": new_id("msg")}) if is_id_taken else record)


def _find_in_view(message_id: str, items: Iterable[object]) -> Message | None:
    """Return the visible record with a LangChain id, regardless of its id in the log."""
    for item in items:
        if isinstance(item, Message) and (item.id == message_id or langchain_id(item) == message_id):
            return item
    return None


def _is_same(record: Message, message: BaseMessage, plan: _AppendPlan) -> bool:
    if original(record) is None:  # stored through another API and read through this one
        return from_record(record)[0] == message
    return is_same_message(record, message, from_checkpoint=plan.origin is not None)


def revision_id(message_id: str, message: BaseMessage) -> str:
    """Return the log id of a message whose own id is already used for other content."""
    content = json.dumps([payload(message), str(message.content)], sort_keys=True, default=str)
    return f"{message_id}~{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _is_summarised(record: Message, context: ActiveContext) -> bool:
    cover = find_cover(context.covers, record.seq)
    return cover is not None and cover.summary_id is not None


async def _remove(session: MnesisSession, message_ids: Sequence[str]) -> None:
    if REMOVE_ALL in message_ids:
        await session.clear_context()
        return
    context = await session.engine.store.active_context(session.id)
    records = [_find_in_view(message_id, context.items) for message_id in message_ids]
    await hide_seqs(session, [record.seq for record in records if record is not None])


def count_cleared(records: Sequence[Message], covers: Iterable[Cover]) -> int:
    """Return how many of the first messages of a log the last clearing of the view removed.

    Clearing hides everything from the first message on. The first message can also have been hidden alone, because it was
    edited; then its new version is in the log.
    """
    end = next((cover.last_seq for cover in covers if cover.first_seq == 1 and cover.summary_id is None), 0)
    if end == 1 and records:
        edited_id = langchain_id(records[0])
        if edited_id is not None and any(langchain_id(record) == edited_id for record in records[1:]):
            return 0
    return end


async def hide_seqs(session: MnesisSession, seqs: Iterable[int]) -> None:
    """Hide messages from the view. Messages that are already folded are skipped."""
    for seq in seqs:
        try:
            await session.hide(seq, seq)
        except StaleContextError:  # folded in the meantime, so no longer in the view
            continue
