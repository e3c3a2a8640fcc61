"""The cost of the hash chain: one append with it, and the same append with its functions replaced by constants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from unittest.mock import patch

from benchmarks.store.benchmark_row import Row
from benchmarks.store.sample_turns import make_turns
from benchmarks.store.timing import TimedWork, median_seconds, time_work
from mnesis.models.message import text_message
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append
from mnesis.store.chain import EMPTY_HEAD
from mnesis.store.sqlite import SqliteStore

US_PER_SECOND = 1_000_000


async def chain_cost(directory: Path, rounds: int) -> Row:
    """Compare the append of a turn with and without the chain. The content hash of each message is in both."""
    chained, bare = SqliteStore(directory / "chained.db"), SqliteStore(directory / "unchained.db")
    for store in (chained, bare):
        await store.open()
        await store.create_session(SessionRecord(id="s", model="m"))
    with_chain, without = _timed_append(chained), _timed_append(bare)
    await without()  # the first append reads the accounts as they were created; the next ones know their own
    cost, base = await median_seconds([with_chain, _without_chain(without)], rounds)
    assert await chained.check() == []
    assert await bare.check() != [], "the append without the chain had one"
    for store in (chained, bare):
        await store.close()
    return Row("append with / without the hash chain", cost * US_PER_SECOND, base * US_PER_SECOND, "us", 1.05)


def _timed_append(store: SqliteStore) -> TimedWork:
    turns, numbers = cycle(make_turns(200)), count()

    async def once() -> float:
        turn, number = next(turns), next(numbers)
        messages = [
            text_message("user", turn.user_text, token_count=50, id=f"u{number}"),
            text_message("assistant", turn.assistant_text, token_count=150, id=f"a{number}"),
        ]
        report = UsageReport(TokenUsage(input=50, output=150), "estimate")
        return await time_work(store.append("s", Append(messages, report, ends_turn=True)))

    return once


def _without_chain(work: TimedWork) -> TimedWork:
    async def once() -> float:
        with _no_chain():
            return await work()

    return once


@contextmanager
def _no_chain() -> Iterator[None]:
    """Let every hash of the chain cost nothing: of messages at their places, heads, turns and accounts."""
    log, accounts = "mnesis.store.sqlite.log", "mnesis.store.sqlite.accounts"
    with (
        patch(f"{log}.hash_of", lambda session_id, seq, message: message.digest),
        patch(f"{log}.extend_chain", lambda head, record: head),
        patch(f"{log}.encode_turn", lambda row: b""),
        patch(f"{accounts}.hash_accounts", lambda profile_hash, row: EMPTY_HEAD),
    ):
        yield
