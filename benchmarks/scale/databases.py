"""Databases to measure: one long session with a tree of summaries, or many short sessions.

They are filled through the store's own verbs. The window does not depend on the length of a session: four summaries and the
newest 40 messages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.store.long_session import SUMMARY_TEXT, UNFOLDED_MESSAGES, append_turns
from benchmarks.store.sample_turns import CONFIG, MODEL
from mnesis import Engine, MnesisSession
from mnesis.models.context import Cover
from mnesis.models.results import CompactionResult
from mnesis.models.summary import Summary
from mnesis.store.base import Compaction, Store

SHOWN_SUMMARIES = 4
CHILDREN_PER_SUMMARY = 10
MAX_LEAF_MESSAGES = 250
MESSAGES_PER_SESSION = 10
SESSIONS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Filled:
    """A database, the session in it that is used, and how much it holds: `size` messages, or sessions."""

    path: Path
    session_id: str
    size: int


async def create_long(path: Path, messages: int) -> Filled:
    """Create a database with one session of `messages` messages, all but the newest 40 folded."""
    session_id = "long"
    async with Engine(path, config=CONFIG) as engine:
        async with MnesisSession.open(model=MODEL, session_id=session_id, engine=engine):
            pass
        await append_turns(engine.store, session_id, messages // 2)
        if messages > 2 * UNFOLDED_MESSAGES:
            await _fold(engine.store, session_id, messages - UNFOLDED_MESSAGES)
    return Filled(path, session_id, messages)


async def create_many(path: Path, sessions: int) -> Filled:
    """Create a database with this number of sessions of ten messages."""
    ids = [f"session-{number:05d}" for number in range(sessions)]
    async with Engine(path, config=CONFIG) as engine:
        for start in range(0, sessions, SESSIONS_AT_ONCE):
            await asyncio.gather(*(_create_short(engine, each) for each in ids[start : start + SESSIONS_AT_ONCE]))
    return Filled(path, ids[sessions // 2], sessions)


async def _create_short(engine: Engine, session_id: str) -> None:
    async with MnesisSession.open(model=MODEL, session_id=session_id, engine=engine):
        await append_turns(engine.store, session_id, MESSAGES_PER_SESSION // 2)


async def _fold(store: Store, session_id: str, until_seq: int) -> None:
    """Fold the messages up to `until_seq` into four summaries, each the root of a tree, with one compaction each."""
    covers: tuple[Cover, ...] = ()
    for first_seq, last_seq in _divide(1, until_seq, SHOWN_SUMMARIES):
        tree = tuple(_make_tree(session_id, first_seq, last_seq))
        root = tree[-1]
        after = (*covers, Cover(root.first_seq, root.last_seq, root.id))
        result = CompactionResult(session_id=session_id, summary_ids=tuple(each.id for each in tree), level_used=1)
        await store.compact(session_id, Compaction(covers, after, tree, (), result))
        covers = after


def _make_tree(session_id: str, first_seq: int, last_seq: int) -> list[Summary]:
    """Return a summary of these messages, after all summaries below it."""
    is_leaf = last_seq - first_seq < MAX_LEAF_MESSAGES
    spans = () if is_leaf else _divide(first_seq, last_seq, CHILDREN_PER_SUMMARY)
    subtrees = [_make_tree(session_id, *span) for span in spans]
    children = [subtree[-1] for subtree in subtrees]
    count = last_seq - first_seq + 1
    root = Summary(
        id=f"sum_{first_seq:08d}_{last_seq:08d}",
        session_id=session_id,
        kind="condensed" if children else "leaf",
        depth=max((child.depth + 1 for child in children), default=0),
        level=1,
        text=SUMMARY_TEXT,
        token_count=400,
        first_seq=first_seq,
        last_seq=last_seq,
        message_count=count,
        source_tokens=100 * count,
        child_ids=tuple(child.id for child in children),
    )
    return [*(summary for subtree in subtrees for summary in subtree), root]


def _divide(first_seq: int, last_seq: int, count: int) -> list[tuple[int, int]]:
    """Divide a span into this number of spans of nearly equal length."""
    messages = last_seq - first_seq + 1
    bounds = [first_seq + messages * part // count for part in range(count + 1)]
    return [(start, end - 1) for start, end in pairwise(bounds)]
