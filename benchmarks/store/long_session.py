"""Databases with long sessions, written with the store's own methods.

The window does not depend on a session's length: four summaries and the newest messages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.store.sample_turns import CONFIG, MODEL, Turn, make_turns
from mnesis import Engine, MnesisSession, TokenUsage
from mnesis.models.context import Cover
from mnesis.models.message import Message, text_message
from mnesis.models.results import CompactionResult
from mnesis.models.session import UsageReport
from mnesis.models.summary import Summary
from mnesis.store.base import Append, Compaction, Store

SESSION_ID = "long"
UNFOLDED_MESSAGES = 40
SUMMARIES = 4
SUMMARY_TEXT = "The budget was agreed, the harbour survey was moved to May, and the ledger was handed over. " * 20
BATCH_TURNS = 200


@dataclass(frozen=True, slots=True)
class LongSession:
    """A database with one session, and its number of messages."""

    path: Path
    messages: int


async def create_long_session(path: Path, messages: int) -> LongSession:
    """Create a database with one session of `messages` messages. If there are more than 80, all but 40 are folded."""
    async with Engine(path, config=CONFIG) as engine:
        async with MnesisSession.open(model=MODEL, session_id=SESSION_ID, engine=engine):
            pass
        await append_turns(engine.store, SESSION_ID, messages // 2)
        if messages > 2 * UNFOLDED_MESSAGES:
            await _fold_messages(engine.store, messages - UNFOLDED_MESSAGES)
    return LongSession(path, messages)


async def append_turns(store: Store, session_id: str, count: int) -> None:
    """Append this number of turns to a session. Turns that are appended at the same time share a transaction."""
    texts = make_turns(BATCH_TURNS)
    for start in range(0, count, BATCH_TURNS):
        numbers = range(start, min(start + BATCH_TURNS, count))
        await asyncio.gather(*(store.append(session_id, _append_of(texts[n - start], n)) for n in numbers))


def _append_of(turn: Turn, number: int) -> Append:
    report = UsageReport(TokenUsage(input=50, output=150), "estimate")
    asked = _message("user", turn.user_text, number, 50)
    return Append([asked, _message("assistant", turn.assistant_text, number, 150)], report, ends_turn=True)


def _message(role: str, text: str, number: int, tokens: int) -> Message:
    fields = {"token_count": tokens, "created_at": 1_763_700_000_000 + number}
    return text_message("user" if role == "user" else "assistant", text, **fields)


async def _fold_messages(store: Store, until_seq: int) -> None:
    """Fold the messages up to `until_seq` into four leaf summaries, with one compaction each."""
    bounds = [until_seq * part // SUMMARIES for part in range(SUMMARIES + 1)]
    covers: tuple[Cover, ...] = ()
    for number, (before, last) in enumerate(pairwise(bounds)):
        leaf = _leaf(f"sum_{number:08d}", before + 1, last)
        after = (*covers, Cover(leaf.first_seq, leaf.last_seq, leaf.id))
        result = CompactionResult(session_id=SESSION_ID, summary_ids=(leaf.id,), level_used=1)
        await store.compact(SESSION_ID, Compaction(covers, after, (leaf,), (), result))
        covers = after


def _leaf(id: str, first_seq: int, last_seq: int) -> Summary:
    count = last_seq - first_seq + 1
    return Summary(
        id=id,
        session_id=SESSION_ID,
        kind="leaf",
        depth=0,
        level=1,
        text=SUMMARY_TEXT,
        token_count=400,
        first_seq=first_seq,
        last_seq=last_seq,
        message_count=count,
        source_tokens=100 * count,
    )
