"""Whatever is forked, appended, folded, hidden, pinned and purged, every log is the plain list that it stands for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mnesis.errors import MnesisError, SessionForkedError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_condensed, make_leaf, make_message
from tests.support.samples import sampled

TOKENS = 10
CHOICES = st.integers(0, 10_000)


@dataclass
class PlainLog:
    """What a session stands for. `covered` are the messages that each summary covers, `hidden` those that nothing shows."""

    messages: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)
    pins: set[int] = field(default_factory=set)
    hidden: set[int] = field(default_factory=set)
    covered: dict[str, list[int]] = field(default_factory=dict)


class ForkModel(RuleBasedStateMachine):
    """SQLite and memory do the same, and agree with plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.stores: list[Store] = [SqliteStore(self.folder / "s.db"), MemoryStore()]
        self.logs: dict[str, PlainLog] = {}
        self.number = 0
        for store in self.stores:
            self.loop.run_until_complete(store.open())
        self.create()

    def teardown(self) -> None:
        for store in self.stores:
            self.loop.run_until_complete(store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Do the same in both stores. Returns the result in SQLite, or the error that both raised."""
        results = []
        for store in self.stores:
            try:
                results.append(self.loop.run_until_complete(getattr(store, verb)(*args, **kwargs)))
            except MnesisError as error:
                results.append(error)
        assert type(results[0]) is type(results[1])
        return results[0]

    def name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    def pick(self, choice: int) -> str:
        return sorted(self.logs)[choice % len(self.logs)]

    def create(self) -> None:
        name = self.name()
        self.run("create_session", SessionRecord(id=name, model="m"))
        self.logs[name] = PlainLog()

    @rule(choice=CHOICES, count=st.integers(1, 4))
    def append(self, choice: int, count: int) -> None:
        session = self.pick(choice)
        messages = [make_message("user", f"text of {name}", id=name, tokens=TOKENS) for name in self._names(count)]
        self.run("append", session, Append(messages))
        self.logs[session].messages += [message.id for message in messages]

    def _names(self, count: int) -> list[str]:
        return [self.name() for _ in range(count)]

    @rule(choice=CHOICES, place=CHOICES)
    def fork(self, choice: int, place: int) -> None:
        session, name = self.pick(choice), self.name()
        origin = self.logs[session]
        at = place % (len(origin.messages) + 1)
        self.run("fork_session", session, SessionRecord(id=name, model="m"), last_seq=at)
        covered = {key: seqs for key, seqs in origin.covered.items() if self._last_seq(session, key) <= at}
        self.logs[name] = PlainLog(
            origin.messages[:at],
            {session, *origin.origins} if at else set(),
            {seq for seq in origin.pins if seq <= at},
            {seq for seq in origin.hidden if seq <= at},
            covered,
        )

    def _last_seq(self, session: str, summary_id: str) -> int:
        summary: Summary = self.run("summary", session, summary_id)
        return summary.last_seq

    @rule(choice=CHOICES, place=CHOICES, length=st.integers(1, 5), saved=st.integers(0, 5))
    def fold(self, choice: int, place: int, length: int, saved: int) -> None:
        session = self.pick(choice)
        log = self.logs[session]
        if not log.messages:
            return
        context = self.run("active_context", session)
        first = place % len(log.messages) + 1
        last = min(first + length - 1, len(log.messages))
        inside = [c for c in context.covers if first <= c.first_seq and c.last_seq <= last]
        children = [self.run("summary", session, c.summary_id) for c in inside if c.summary_id is not None]
        messages = [seq for seq in range(first, last + 1) if not any(c.first_seq <= seq <= c.last_seq for c in inside)]
        new: list[Summary] = []
        covers = list(context.covers)
        if children and place % 2:
            first, last = children[0].first_seq, children[-1].last_seq
            if any(first <= item.seq <= last for item in context.items if isinstance(item, Message)):
                return
            new = [make_condensed(self.name(), children)]
        elif messages:
            new = [make_leaf(self.name(), first, last, count=len(messages))]
        else:
            return
        kept = [c for c in covers if c.last_seq < first or c.first_seq > last]
        prunes = [Prune(first, 0, saved)] if saved else []
        compaction = make_compaction(covers, [*kept, Cover(first, last, new[0].id)], new, prunes)
        if not isinstance(self.run("compact", session, compaction), MnesisError):
            seqs = [seq for child in new[0].child_ids for seq in log.covered[child]] or messages
            log.covered[new[0].id] = sorted(seqs)

    @rule(choice=CHOICES, place=CHOICES, length=st.integers(0, 3))
    def hide(self, choice: int, place: int, length: int) -> None:
        session = self.pick(choice)
        log = self.logs[session]
        first = place % (len(log.messages) + 1)
        if not isinstance(self.run("hide", session, first, first + length), MnesisError):
            log.hidden.update(range(first, first + length + 1))

    @rule(choice=CHOICES, place=CHOICES, pinned=st.booleans())
    def pin(self, choice: int, place: int, pinned: bool) -> None:
        session = self.pick(choice)
        log = self.logs[session]
        seq = place % (len(log.messages) + 1)
        if not isinstance(self.run("pin", session, seq, pinned), MnesisError):
            (log.pins.add if pinned else log.pins.discard)(seq)

    @rule(choice=CHOICES)
    def purge(self, choice: int) -> None:
        session = self.pick(choice)
        result = self.run("purge", session)
        if isinstance(result, SessionForkedError):
            assert set(result.fork_ids) <= {name for name, log in self.logs.items() if session in log.origins}
            return
        del self.logs[session]
        if not self.logs:
            self.create()

    @rule(choice=CHOICES, place=CHOICES)
    def search(self, choice: int, place: int) -> None:
        from mnesis.models.search import Search

        session = self.pick(choice)
        log = self.logs[session]
        if log.messages:
            wanted = log.messages[place % len(log.messages)]
            page = self.run("search", Search(f"text of {wanted}", session, 50, mode="substring"))
            assert wanted in [hit.message_id for hit in page]
            assert {hit.message_id for hit in page} <= set(log.messages)

    @invariant()
    def logs_are_the_plain_lists(self) -> None:
        for session, log in self.logs.items():
            messages = self.run("messages", session)
            assert [message.id for message in messages] == log.messages
            assert [message.seq for message in messages] == list(range(1, len(log.messages) + 1))
            context = self.run("active_context", session)
            assert context.pins == log.pins
            shown: list[int] = []
            for item in context.items:
                shown += [item.seq] if isinstance(item, Message) else log.covered[item.id]
            assert shown == [seq for seq in range(1, len(log.messages) + 1) if seq not in log.hidden]
            visible = [item for item in context.items if isinstance(item, Message)]
            saved = sum(prune.tokens_saved for prune in context.prunes.values())
            assert context.session.message_tokens == TOKENS * len(visible) - saved
            for summary_id, seqs in log.covered.items():
                covered = self.run("covered_messages", session, summary_id)
                assert [message.seq for message in covered] == seqs

    @invariant()
    def nothing_is_damaged(self) -> None:
        assert self.run("check") == []


TestForkModel = ForkModel.TestCase
TestForkModel.settings = settings(
    max_examples=sampled(40), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
