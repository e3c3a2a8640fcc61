"""Several processes on one database, and on one session."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mnesis.errors import StaleContextError
from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_leaf, make_message
from tests.store.children import Report, start

TURNS = 100


async def write(path: Path, tell: Report, session_id: str, name: str) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.create_session(SessionRecord(id=session_id, model="m"))
    for number in range(TURNS):
        text = f"{name}-{number}"
        messages = [make_message("user", text, id=f"q-{text}"), make_message("assistant", text, id=f"a-{text}")]
        appended = await store.append(session_id, Append(messages, ends_turn=True))
        tell(f"{appended.messages[0].seq} {text}")
        if number % 10 == 9:
            await fold(store, session_id, f"sum-{text}")
    await store.close()


async def fold(store: SqliteStore, session_id: str, name: str) -> None:
    while True:
        context = await store.active_context(session_id)
        first = context.covers[-1].last_seq + 1 if context.covers else 1
        made = make_leaf(name, first, context.session.last_seq)
        covers = [*context.covers, Cover(first, made.last_seq, name)]
        if made.last_seq < first:
            return
        try:
            await store.compact(session_id, make_compaction(context.covers, covers, [made]))
        except StaleContextError:
            continue
        return


def test_processes_share_a_database_and_a_session(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    sessions = ["shared", "shared", "own"]
    children = [
        start(lambda tell, s=session, n=f"p{index}": write(path, tell, s, n)) for index, session in enumerate(sessions)
    ]
    outcomes = [child.wait() for child in children]
    assert [code for _, code in outcomes] == [0, 0, 0]

    async def verify() -> None:
        store = SqliteStore(path)
        await store.open()
        assert await store.check() == []
        shared, own = await store.messages("shared"), await store.messages("own")
        await store.close()
        assert len(own) == 2 * TURNS
        assert len(shared) == 4 * TURNS
        for lines, log in ((outcomes[0][0], shared), (outcomes[1][0], shared), (outcomes[2][0], own)):
            places = [(int(line.split()[0]), line.split()[1]) for line in lines]
            assert places == sorted(places, key=lambda place: place[0])
            for seq, text in places:
                assert [message.text_content() for message in log[seq - 1 : seq + 1]] == [text, text]

    asyncio.run(verify())


def test_eight_processes_may_make_a_database_at_once(tmp_path: Path) -> None:
    for attempt in range(4):
        path = tmp_path / str(attempt) / "s.db"
        gate, opener = os.pipe()

        async def work(tell: Report, path: Path = path, gate: int = gate, opener: int = opener) -> None:
            os.close(opener)
            os.read(gate, 1)
            store = SqliteStore(path)
            await store.open()
            await store.create_session(SessionRecord(id="s", model="m"))
            await store.append("s", Append([make_message("user", str(os.getpid()))]))
            await store.close()

        children = [start(work) for _ in range(8)]
        os.close(gate)
        os.close(opener)
        assert [child.wait() for child in children] == [([], 0)] * 8

        async def stored(path: Path = path) -> list[str]:
            store = SqliteStore(path)
            await store.open()
            assert await store.check() == []
            texts = [message.text_content() for message in await store.messages("s")]
            await store.close()
            return texts

        assert sorted(asyncio.run(stored())) == sorted(str(child.pid) for child in children)
