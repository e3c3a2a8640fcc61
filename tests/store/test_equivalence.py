"""Whatever is done to them, the two stores cannot be told apart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnesis.errors import MnesisError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message, TextPart
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_condensed, make_leaf
from tests.support.samples import sampled

SESSIONS = st.sampled_from(["a", "b"])
SEQS = st.integers(0, 12)
SMALL = st.integers(0, 30)
USAGES = st.builds(TokenUsage, input=st.integers(0, 3_000), output=SMALL, cache_read=SMALL, total=SMALL)
REPORTS = st.none() | st.builds(
    UsageReport,
    USAGES,
    st.sampled_from(["request", "inferred", "estimate"]),
    cost=st.floats(0, 1),
    request_estimate=st.integers(0, 2_000),
)
MESSAGES = st.builds(
    Message,
    id=st.sampled_from([f"m{number}" for number in range(24)]),
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    parts=st.builds(lambda text: (TextPart(text=text),), st.text(st.characters(codec=None), max_size=3)),
    token_count=SMALL,
    tool_tokens=st.just(0),
    created_at=st.integers(-5, 5),
)
TIMES = ("created_at", "updated_at")
Act = Callable[[Store], Awaitable[Any]]


def told(value: Any) -> Any:
    """A result without the moments it happened at."""
    if isinstance(value, dict):
        return {key: told(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [told(inner) for inner in value]
    if hasattr(value, "model_dump"):
        return told(value.model_dump())
    return told(asdict(value)) if hasattr(value, "__dataclass_fields__") else value


class TwoStores(RuleBasedStateMachine):
    """Every verb goes to both; results and errors must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.stores = self.create_stores()
        self.made = 0
        for store in self.stores:
            self.loop.run_until_complete(store.open())
        self.create("a", 3)

    def create_stores(self) -> list[Store]:
        return [SqliteStore(self.folder / "s.db"), MemoryStore()]

    def teardown(self) -> None:
        for store in self.stores:
            self.loop.run_until_complete(store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def both(self, act: Act) -> Any:
        outcomes = [self.loop.run_until_complete(self._outcome(act, store)) for store in self.stores]
        assert told(outcomes[0]) == told(outcomes[1])
        return outcomes[0]

    async def _outcome(self, act: Act, store: Store) -> Any:
        try:
            return await act(store)
        except MnesisError as error:
            return type(error).__name__

    @rule(session=SESSIONS, system_tokens=SMALL)
    def create(self, session: str, system_tokens: int) -> None:
        self.both(lambda s: s.create_session(SessionRecord(id=session, model="m", system_tokens=system_tokens)))

    @rule(session=SESSIONS, tokens=SMALL)
    def update(self, session: str, tokens: int) -> None:
        self.both(lambda s: s.update_session(session, system_tokens=tokens, metadata={"k": [tokens]}))

    @rule(session=SESSIONS, messages=st.lists(MESSAGES, max_size=4), report=REPORTS, ends_turn=st.booleans())
    def append(self, session: str, messages: list[Message], report: UsageReport | None, ends_turn: bool) -> None:
        self.both(lambda s: s.append(session, Append(messages, report, ends_turn)))

    @rule(session=SESSIONS, first=SEQS, last=SEQS)
    def hide(self, session: str, first: int, last: int) -> None:
        self.both(lambda s: s.hide(session, first, last))

    @rule(session=SESSIONS, first=SEQS, length=st.integers(1, 6), data=st.data())
    def fold(self, session: str, first: int, length: int, data: st.DataObject) -> None:
        context = self.both(lambda s: s.active_context(session))
        if isinstance(context, str):
            return
        self.made += 1
        made = make_leaf(f"leaf{self.made}", max(first, 1), max(first, 1) + length - 1, tokens=data.draw(SMALL))
        inside = [c for c in context.covers if made.first_seq <= c.first_seq and c.last_seq <= made.last_seq]
        hidden = sum(c.last_seq - c.first_seq + 1 for c in inside)
        made = made.model_copy(update={"message_count": made.message_count - hidden})
        read = context.covers if data.draw(st.integers(0, 5)) else ()
        kept = [c for c in context.covers if c not in inside]
        covers = [*kept, Cover(made.first_seq, made.last_seq, made.id)]
        prunes = data.draw(st.lists(st.builds(Prune, SEQS, st.integers(0, 1), SMALL), max_size=2))
        self.both(lambda s: s.compact(session, make_compaction(read, covers, [made], prunes)))

    @rule(session=SESSIONS, count=st.integers(1, 3), tokens=SMALL)
    def condense(self, session: str, count: int, tokens: int) -> None:
        context = self.both(lambda s: s.active_context(session))
        if isinstance(context, str):
            return
        standing = [cover for cover in context.covers if cover.summary_id is not None][:count]
        if not standing:
            return
        children = [self.both(lambda s, c=cover: s.summary(session, c.summary_id)) for cover in standing]
        self.made += 1
        top = make_condensed(f"top{self.made}", children, tokens=tokens)
        span = (standing[0].first_seq, standing[-1].last_seq)
        kept = [c for c in context.covers if c.last_seq < span[0] or c.first_seq > span[1]]
        self.both(lambda s: s.compact(session, make_compaction(context.covers, [*kept, Cover(*span, top.id)], [top])))

    @rule(session=SESSIONS)
    def unfold(self, session: str) -> None:
        context = self.both(lambda s: s.active_context(session))
        if not isinstance(context, str):
            self.both(lambda s: s.compact(session, make_compaction(context.covers, context.covers[1:])))

    @rule(session=SESSIONS, seq=SEQS)
    def interrupt(self, session: str, seq: int) -> None:
        self.both(lambda s: s.record_interruption(session, Interruption(seq, "failed", "E", "e", "partial", 1)))

    @rule(session=SESSIONS)
    def purge(self, session: str) -> None:
        self.both(lambda s: s.purge(session))

    @rule()
    def reopen(self) -> None:
        for store in self.stores:
            self.loop.run_until_complete(store.close())
            self.loop.run_until_complete(store.open())

    @rule(session=SESSIONS, after=SEQS, until=st.none() | SEQS, limit=st.none() | SEQS)
    def read(self, session: str, after: int, until: int | None, limit: int | None) -> None:
        self.both(lambda s: s.messages(session, after_seq=after, until_seq=until, limit=limit))
        for summary in self.both(lambda s: s.summaries(session)):
            if not isinstance(summary, str):
                self.both(lambda s, i=summary.id: s.covered_messages(session, i, after_seq=after, limit=limit))

    @rule(session=SESSIONS, id=st.sampled_from(["m0", "m1", "no"]))
    def look_up(self, session: str, id: str) -> None:
        self.both(lambda s: s.message(session, id))
        self.both(lambda s: s.summary(session, id))

    @invariant()
    def they_agree(self) -> None:
        for session in ("a", "b"):
            self.both(lambda s, n=session: s.active_context(n))
            self.both(lambda s, n=session: s.compactions(n))
            self.both(lambda s, n=session: s.interruptions(n))
            self.both(lambda s, n=session: self._turns(s, n))
        self.both(lambda s: s.sessions())
        assert self.both(lambda s: s.check()) == []

    async def _turns(self, store: Store, session: str) -> Any:
        return store.turns(session)


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(
    max_examples=sampled(40), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
