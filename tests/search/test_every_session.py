"""Searching every session of a database: nothing is missed, and many short sessions are indexed like one long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mnesis import Engine
from mnesis.cli.app import cli
from mnesis.cli.follow_progress import follow_progress
from mnesis.models.message import text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.sqlite.search import MAX_BATCH_MESSAGES
from tests.support.inspected import build_database


async def fill(store: Store, session_ids: list[str], text: str) -> None:
    for session_id in session_ids:
        await store.create_session(SessionRecord(id=session_id, model="m"))
        messages = [text_message(role, f"{text} {session_id} {role}") for role in ("user", "assistant")]
        await store.append(session_id, Append(messages))


async def test_sessions_whose_ids_are_not_in_order_are_all_found(store: Store) -> None:
    await fill(store, ["z", "m", "a", "k"], "the valve leaked")
    assert {hit.session_id for hit in await store.search(Search("valve leaked", limit=50))} == {"z", "m", "a", "k"}
    assert len(await store.search(Search("valve leaked", limit=50, role="user"))) == 4
    assert len(await store.search(Search("valve leaked", limit=50, mode="substring"))) == 8


async def test_a_search_of_all_sessions_finds_what_a_search_of_one_finds(tmp_path: Path) -> None:
    async with Engine(await build_database(tmp_path)) as engine:
        everywhere = {hit.message_id for hit in await engine.search("valve leaked", limit=100)}
        in_main = {hit.message_id for hit in await engine.search("valve leaked", limit=100, session_id="main")}
    assert in_main
    assert in_main <= everywhere


async def test_short_sessions_share_the_transactions_of_indexing(store: Store) -> None:
    session_ids = [f"s{number}" for number in range(300)]
    await fill(store, session_ids, "the valve leaked")
    reports: list[tuple[int, int]] = []
    await store.search(Search("valve"), lambda indexed, missing: reports.append((indexed, missing)))
    assert reports[-1] == (600, 600)
    assert reports == sorted(reports)
    if store.location != ":memory:":
        assert len(reports) == -(-600 // MAX_BATCH_MESSAGES)


async def test_nothing_is_reported_when_nothing_is_missing(store: Store) -> None:
    await fill(store, ["s"], "the valve leaked")
    await store.search(Search("valve"))
    reports: list[tuple[int, int]] = []
    await store.search(Search("valve"), lambda indexed, missing: reports.append((indexed, missing)))
    assert reports == []


async def test_rebuilding_the_index_reports_every_message(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a.db") as engine:
        await fill(engine.store, ["a", "b"], "the valve leaked")
        reports: list[tuple[int, int]] = []
        await engine.reindex(lambda indexed, missing: reports.append((indexed, missing)))
    assert reports == [(4, 4)]


class RecordingBar:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    def set_total(self, total: int | None) -> None:
        self.total = total

    def advance(self, count: int = 1) -> None:
        self.done += count


def test_the_bar_shows_how_many_messages_are_indexed() -> None:
    bar = RecordingBar()
    show = follow_progress(bar)
    for indexed in (256, 512, 600):
        show(indexed, 600)
        assert (bar.done, bar.total) == (indexed, 600)


@pytest.mark.parametrize("command", [["search", "valve"], ["reindex"]])
async def test_the_commands_follow_the_indexing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Engine(tmp_path / "a.db") as engine:
        await fill(engine.store, ["a", "b"], "the valve leaked")
    bar = RecordingBar()
    for module in ("mnesis.cli.search", "mnesis.cli.maintenance"):
        monkeypatch.setattr(f"{module}.follow_progress", lambda _: follow_progress(bar))
    from anyio import to_thread

    result = await to_thread.run_sync(lambda: CliRunner().invoke(cli, [*command, "--db", str(tmp_path / "a.db")]))
    assert result.exit_code == 0, result.output
    assert (bar.done, bar.total) == (4, 4)
