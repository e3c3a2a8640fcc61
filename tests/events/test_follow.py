"""An engine that follows publishes what other processes commit: each event once, in order, also after an absence."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mnesis import ConfigurationError, Engine, MnesisConfig, MnesisEvent, MnesisSession, StoreConfig
from mnesis.engine.follow import ChangeStream
from tests.events.other_process import shown
from tests.support.warm_python import run_python

OTHER = Path(__file__).with_name("other_process.py")
LOCAL = {"session.closed", "compaction.triggered", "summarizer.breaker_changed"}
"""Events that only the process publishes in which they happen: nothing is committed for them."""
Published = list[tuple[str, dict[str, Any]]]


def run_other_process(path: Path | str) -> Published:
    done = run_python([str(OTHER), str(path)], cwd=OTHER.parents[2], has_mnesis=True)
    assert done.returncode == 0, done.stderr
    return [(event, payload) for event, payload in json.loads(done.stdout)]


def collect(engine: Engine, last_session: str = "end") -> tuple[Published, asyncio.Event]:
    """Collect the events of an engine. The event is set when `last_session` was created."""
    published: Published = []
    finished = asyncio.Event()

    def handle(event: MnesisEvent, payload: Any) -> None:
        published.append((str(event), shown(payload)))
        if event == MnesisEvent.SESSION_CREATED and payload.session_id == last_session:
            finished.set()

    engine.events.subscribe_all(handle)
    return published, finished


def by_session(published: Published) -> dict[str, Published]:
    """Group events by session. Purged sessions are left out: of them, only the deletion is certain to be seen."""
    groups: dict[str, Published] = {}
    for event, payload in published:
        session_id = payload.get("session_id", "")
        if event not in LOCAL and session_id not in ("", "gone"):
            groups.setdefault(session_id, []).append((event, payload))
    return groups


async def test_another_process_is_followed_event_by_event(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, follow=True) as engine:
        published, finished = collect(engine)
        others = await asyncio.to_thread(run_other_process, path)
        await finished.wait()
    assert by_session(published) == by_session(others)
    assert len(by_session(published)["kept"]) > 40
    events = {event for event, _ in published}
    assert {"compaction.completed", "message.updated", "message.created", "part.created"} <= events


async def test_map_runs_of_other_processes_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, follow=True) as engine:
        published, finished = collect(engine)
        await asyncio.to_thread(run_other_process, path)
        await finished.wait()
    assert [(event, payload) for event, payload in published if event.startswith("map.")] == [
        ("map.started", {"total": None, "model": "m/x", "type": "llm", "run_id": "run"}),
        ("map.item_completed", {"completed": 1, "total": 2, "success": True, "run_id": "run"}),
        ("map.item_completed", {"completed": 2, "total": 2, "success": False, "run_id": "run"}),
        ("map.completed", {"total": 2, "completed": 2, "run_id": "run"}),
    ]


async def test_own_events_come_once_and_others_reach_views(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, follow=True) as engine, Engine(path, follow=True) as second:
        published, finished = collect(second)
        async with MnesisSession.open(model=None, session_id="kept", engine=engine) as session:
            heard: list[int] = []
            session.subscribe(MnesisEvent.MESSAGE_CREATED, lambda _, payload: heard.append(payload.seq))
            await session.record("own question", "own answer")
            await asyncio.to_thread(run_other_process, path)
            await finished.wait()
    assert heard == list(range(1, 19))
    seqs = [payload["seq"] for event, payload in published if event == "message.created" and payload["seq"] <= 18]
    assert [seq for seq in seqs if seqs.count(seq) > 1 and seq > 2] == []


async def test_a_subscriber_that_was_away_catches_up(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path) as engine:
        cursor = await engine.cursor()
    others = await asyncio.to_thread(run_other_process, path)
    engine = Engine(path, follow=True, since=cursor)
    published, finished = collect(engine)
    async with engine:
        await finished.wait()
        assert await engine.cursor() != cursor
    assert by_session(published) == by_session(others)


async def test_a_stream_continues_at_any_of_its_cursors(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path) as engine:
        start = await engine.cursor()
        await asyncio.to_thread(run_other_process, path)
        whole = await ChangeStream(engine.store, start).read()
        assert len({change.cursor for change in whole}) == len(whole)
        for index, change in enumerate(whole):
            rest = await ChangeStream(engine.store, change.cursor).read()
            assert [each.cursor for each in rest] == [each.cursor for each in whole[index + 1 :]]


@pytest.mark.parametrize("db", [":memory:", "s.db"])
async def test_a_stream_contains_the_changes_of_its_own_process(tmp_path: Path, db: str) -> None:
    async with Engine(db if db == ":memory:" else tmp_path / db) as engine:
        stream = engine.changes(since="1.0")
        published, _ = collect(engine)
        async with MnesisSession.open(model=None, session_id="end", engine=engine) as session:
            await session.record("question", "answer")
        await engine.purge("end")
        changes = []
        while len(changes) < 1:
            changes = [(str(change.event), dict(change.payload)) for change in await stream.read()]
        assert changes == [("session.deleted", {"session_id": "end"})]
        assert ("session.deleted", {"session_id": "end"}) in published


@pytest.mark.parametrize("db", [":memory:", "s.db"])
async def test_iterating_waits_for_what_comes_next(tmp_path: Path, db: str) -> None:
    async with Engine(db if db == ":memory:" else tmp_path / db) as engine:
        stream = engine.changes()
        await stream.start()
        async with MnesisSession.open(model=None, session_id="s", engine=engine) as session:
            await session.record("question", "answer")
        names = [str((await anext(stream)).event) for _ in range(6)]
    assert names == [
        "session.created",
        *("message.created", "part.created", "message.created", "part.created"),
        "session.updated",
    ]


async def test_a_purge_is_published_and_leaves_no_name(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path) as writer:
        async with MnesisSession.open(model=None, session_id="needle", engine=writer) as session:
            await session.record("question", "answer")
        reader = Engine(path, config=MnesisConfig(store=StoreConfig(read_only=True)), follow=True)
        deleted = asyncio.Event()
        reader.events.subscribe(
            MnesisEvent.SESSION_DELETED, lambda _, payload: payload.session_id == "needle" and deleted.set()
        )
        async with reader:
            await writer.purge("needle")
            await deleted.wait()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT kind, body FROM changes").fetchall()
    connection.close()
    assert [kind for kind, _ in rows] == ["deleted"]
    assert "needle" not in str(rows)


async def test_positions_are_never_given_twice(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db") as engine:
        positions = []
        for _ in range(3):
            async with MnesisSession.open(model=None, session_id="s", engine=engine):
                positions.append(await engine.store.last_change())
            await engine.purge("s")
            positions.append(await engine.store.last_change())
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("since", ["", "x", "1", "-1.0", "1.2.3"])
def test_a_since_that_is_not_a_cursor_is_refused(since: str) -> None:
    with pytest.raises(ConfigurationError, match="cursor"):
        Engine(":memory:", follow=True, since=since)


async def test_a_since_that_cannot_be_honoured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="follow=True"):
        Engine(":memory:", since="1.0")
    with pytest.raises(ConfigurationError, match="this database"):
        await Engine(tmp_path / "s.db", follow=True, since="99.0").open()
    async with Engine(tmp_path / "t.db", follow=True):
        late = Engine(tmp_path / "t.db", follow=True, since="1.0")
        with pytest.raises(ConfigurationError, match="too late"):
            await late.open()
        await late.close()
