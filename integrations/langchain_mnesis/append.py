"""Putting LangChain messages into a log: new ones appended, known ones left alone, edited ones superseded.

A message is known by its id; one without an id is always new. A known id with other content is a new revision: it is
appended, and the one it replaces leaves the view (the log keeps both). Removals are edits of the view alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage

from langchain_mnesis.messages.convert import from_record, log_id, original, own_id, payload, same, to_record
from mnesis.errors import (
    ConfigurationError,
    DuplicateIDError,
    InvalidMessageError,
    MessageNotFoundError,
    StaleContextError,
)
from mnesis.ids import new_id
from mnesis.models.context import ActiveContext
from mnesis.models.message import Message
from mnesis.models.usage import TokenUsage
from mnesis.session.session import MnesisSession

REMOVE_ALL = "__remove_all__"
"""The id of LangGraph's message that removes all others."""
ATTEMPTS = 5


async def write(session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None = None) -> list[Message]:
    """Store messages in order, those between two removals in one transaction. Returns what was appended. `origin` is noted
    with each.

    Raises `InvalidMessageError` for what is no message, and the store's errors.
    """
    for message in messages:
        if not isinstance(message, BaseMessage):
            raise InvalidMessageError(f"{type(message).__name__} is no LangChain message: {str(message)[:80]!r}")
    stored: list[Message] = []
    for removals, group in groupby(messages, key=lambda message: isinstance(message, RemoveMessage)):
        if removals:
            await _remove(session, [str(message.id) for message in group])
        else:
            stored += await _append(session, list(group), origin)
    return stored


@dataclass
class _Plan:
    """What an append is going to do: records to store, and those, stored or fresh, that leave the view for them."""

    origin: str | None = None
    fresh: list[Message] = field(default_factory=list)
    superseded: list[Message] = field(default_factory=list)


async def _append(session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None) -> list[Message]:
    for attempt in range(ATTEMPTS):
        plan = await _planned(session, messages, origin)
        try:
            stored = await session.append(plan.fresh, tokens=_usage(plan.fresh), ends_turn=_ends_turn(messages))
        except DuplicateIDError:  # another writer stored one of them since the plan was made
            if attempt == ATTEMPTS - 1:
                raise
            continue
        await hide(session, _places(plan.superseded, stored))
        await _pin_instructions(session, stored)
        return stored
    return []


async def _pin_instructions(session: MnesisSession, stored: Iterable[Message]) -> None:
    """System messages are instructions: they stay in the view as they are, as far as there is room for pinned messages."""
    for record in stored:
        if record.role == "system":
            try:
                await session.pin(record.id)
            except (ConfigurationError, StaleContextError):  # no room for more pins, or folded already
                return


def _places(superseded: Iterable[Message], stored: Iterable[Message]) -> list[int]:
    fresh = {record.id: record.seq for record in stored}
    return [record.seq or fresh[record.id] for record in superseded]


def _usage(records: Sequence[Message]) -> TokenUsage | None:
    return next((record.tokens for record in reversed(records) if record.tokens is not None), None)


def _ends_turn(messages: Sequence[BaseMessage]) -> bool:
    last = messages[-1]
    return isinstance(last, AIMessage) and not last.tool_calls


async def _planned(session: MnesisSession, messages: Sequence[BaseMessage], origin: str | None) -> _Plan:
    plan, context = _Plan(origin), None
    for message in messages:
        name = log_id(message)
        known = await _known(session, name, plan)
        if known is None:
            plan.fresh.append(to_record(message, origin=origin))
            continue
        context = context or await session.engine.store.active_context(session.id)
        await _revise(session, plan, context, message, known)
    return plan


async def _known(session: MnesisSession, name: str | None, plan: _Plan) -> Message | None:
    if name is None:
        return None
    earlier = next((record for record in plan.fresh if record.id == name), None)
    return earlier or await _stored(session, name)


async def _stored(session: MnesisSession, name: str) -> Message | None:
    try:
        return await session.message(name)
    except MessageNotFoundError:
        return None


async def _revise(
    session: MnesisSession, plan: _Plan, context: ActiveContext, message: BaseMessage, known: Message
) -> None:
    gone = {record.id for record in plan.superseded}
    shown = _shown(known.id, (item for item in [*context.items, *plan.fresh] if item.id not in gone))
    if shown is not None:
        if _is_same(shown, message, plan):
            return
        plan.superseded.append(shown)
    revision = _revision_id(known.id, message)
    candidates = [record for record in (known, await _stored(session, revision)) if record is not None]
    if shown is None and any(
        _is_summarised(record, context) and _is_same(record, message, plan) for record in candidates
    ):
        return
    taken = len(candidates) == 2 or any(record.id == revision for record in plan.fresh)
    record = to_record(message, id=revision, origin=plan.origin)
    plan.fresh.append(record.model_copy(update={"id": new_id("msg")}) if taken else record)


def _shown(name: str, items: Iterable[object]) -> Message | None:
    """What stands in the view under an id of LangChain's, whatever it is called in the log."""
    for item in items:
        if isinstance(item, Message) and (item.id == name or own_id(item) == name):
            return item
    return None


def _is_same(record: Message, message: BaseMessage, plan: _Plan) -> bool:
    if original(record) is None:  # it came through another door and was read through this one
        return from_record(record)[0] == message
    return same(record, message, from_checkpoint=plan.origin is not None)


def _revision_id(name: str, message: BaseMessage) -> str:
    content = json.dumps([payload(message), str(message.content)], sort_keys=True, default=str)
    return f"{name}~{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _is_summarised(record: Message, context: ActiveContext) -> bool:
    return any(
        cover.summary_id is not None and cover.first_seq <= record.seq <= cover.last_seq for cover in context.covers
    )


async def _remove(session: MnesisSession, names: Sequence[str]) -> None:
    if REMOVE_ALL in names:
        await session.start_epoch()
        return
    context = await session.engine.store.active_context(session.id)
    found = [_shown(name, context.items) for name in names]
    await hide(session, [record.seq for record in found if record is not None])


async def hide(session: MnesisSession, places: Iterable[int]) -> None:
    """Take messages out of the view; those that are folded already are."""
    for seq in places:
        try:
            await session.hide(seq, seq)
        except StaleContextError:  # folded meanwhile: it does not stand in the view any more
            continue
