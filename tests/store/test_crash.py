"""A killed process loses nothing it acknowledged and leaves nothing by halves."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest

from mnesis.errors import StaleContextError
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_leaf, make_message
from tests.store.children import Report, start
from tests.support.samples import sampled

STATEMENTS = 20


async def worker(path: Path, report: Report, *, die_at_statement: int | None = None, die_at_step: int = 0) -> None:
    """Append turns and fold them for ever, telling what was acknowledged."""
    store = SqliteStore(path)
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    if die_at_statement is not None:
        statements = itertools.count(1)

        def die(_: object = None) -> int:
            if next(statements) >= die_at_statement:
                os._exit(9)
            return 0

        await store.database.read(lambda c: c.set_trace_callback(die))
    if die_at_step:
        await store.database.read(lambda c: c.set_progress_handler(lambda: os._exit(9), die_at_step))
    report("ready")
    for number in itertools.count():
        name = f"{os.getpid()}-{number}"
        messages = [
            make_message("user", f"question {name}", id=f"q-{name}"),
            make_message("assistant", f"answer {name}", id=f"a-{name}"),
        ]
        await store.append("s", Append(messages, ends_turn=True))
        report(name)
        if number % 3 == 2:
            await fold(store)


async def fold(store: SqliteStore) -> None:
    context = await store.active_context("s")
    end = context.covers[-1].last_seq if context.covers else 0
    made = make_leaf(f"sum_{end}", end + 1, context.session.last_seq)
    await store.compact(
        "s", make_compaction(context.covers, [*context.covers, Cover(made.first_seq, made.last_seq, made.id)], [made])
    )


async def survivors(path: Path) -> set[str]:
    """Names of the turns that are stored, after every invariant was found to hold."""
    store = SqliteStore(path)
    await store.open()
    try:
        if not (await store.sessions()).sessions:
            return set()
        assert await store.check() == []
        messages = await store.messages("s")
        session = await store.session("s")
        assert session.last_seq == 2 * session.turn_count == len(messages)
        questions = [message.text_content().removeprefix("question ") for message in messages[::2]]
        assert [message.text_content() for message in messages[1::2]] == [f"answer {name}" for name in questions]
        return set(questions)
    finally:
        await store.close()


@pytest.mark.parametrize("start_at", range(0, 120, 20))
def test_dying_at_the_start_of_any_statement_tears_nothing(tmp_path: Path, start_at: int) -> None:
    acknowledged: set[str] = set()
    path = tmp_path / "s.db"
    for index in range(sampled(STATEMENTS)):
        statement = start_at + 1 + index * STATEMENTS // sampled(STATEMENTS)
        lines, code = start(lambda tell, k=statement: worker(path, tell, die_at_statement=k)).wait()
        assert code == 9
        acknowledged.update(lines[1:])
        assert acknowledged <= asyncio.run(survivors(path))
    assert acknowledged or start_at == 0


def test_dying_inside_a_statement_tears_nothing(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    path = tmp_path / "s.db"
    chance = random.Random(7)
    for _ in range(sampled(100)):
        step = chance.randrange(5, 6_000)
        lines, code = start(lambda tell, k=step: worker(path, tell, die_at_step=k)).wait()
        assert code == 9
        acknowledged.update(lines[1:])
        assert acknowledged <= asyncio.run(survivors(path))


@pytest.mark.parametrize("round", range(sampled(6, at_least=3)))
def test_a_killed_process_keeps_what_it_acknowledged(tmp_path: Path, round: int) -> None:
    acknowledged: set[str] = set()
    path = tmp_path / "s.db"
    chance = random.Random(round)
    for _ in range(sampled(15)):
        child = start(lambda tell: worker(path, tell))
        lines = [child.read_line() for _ in range(chance.randrange(20))]
        time.sleep(chance.uniform(0, 0.003))  # the kill may fall anywhere
        os.kill(child.pid, signal.SIGKILL)
        more, code = child.wait()
        assert code == -signal.SIGKILL
        acknowledged.update(name for name in [*lines, *more] if name != "ready")
        assert acknowledged <= asyncio.run(survivors(path))


def test_processes_killed_while_others_write_disturb_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    chance = random.Random(1)

    async def tolerant(tell: Report) -> None:
        try:
            await worker(path, tell)
        except StaleContextError:
            tell("stale")

    for _ in range(sampled(5, at_least=3)):
        children = [start(tolerant) for _ in range(3)]
        lines = [line for child in children for line in [child.read_line() for _ in range(chance.randrange(1, 15))]]
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        for child in children:
            lines += child.wait()[0]
        names = {name for name in lines if name not in ("ready", "stale", "")}
        assert names <= asyncio.run(survivors(path))
