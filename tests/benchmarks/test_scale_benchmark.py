"""The benchmark of large sessions measures intact databases whose windows are equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.scale.command_work import measure_commands
from benchmarks.scale.databases import SHOWN_SUMMARIES, Filled, create_long, create_many
from benchmarks.scale.session_work import measure_search_of_all, measure_session
from benchmarks.store.long_session import UNFOLDED_MESSAGES
from mnesis import Engine

ROOT = Path(__file__).parents[2]


async def check(filled: Filled) -> tuple[int, int]:
    """Check a database that the benchmark filled. Returns the messages of the session, and the items of its context."""
    async with Engine(filled.path) as engine:
        assert await engine.store.check() == []
        context = await engine.store.active_context(filled.session_id)
        return context.session.last_seq, len(context.items)


async def test_long_sessions_are_intact_and_show_the_same_window(tmp_path: Path) -> None:
    short, long = await create_long(tmp_path / "short.db", 200), await create_long(tmp_path / "long.db", 3_000)
    shown = SHOWN_SUMMARIES + UNFOLDED_MESSAGES
    assert [await check(each) for each in (short, long)] == [(200, shown), (3_000, shown)]
    async with Engine(long.path) as engine:
        depths = {summary.depth for summary in await engine.store.summaries("long")}
    assert depths == {0, 1}
    rows = await measure_session(short, long, 1, "long session")
    assert [row.name.split(",")[0] for row in rows] == ["open", "window", "record", "search"]
    assert all(row.small_cost > 0 and row.large_cost > 0 for row in rows)


async def test_many_sessions_are_intact(tmp_path: Path) -> None:
    many = await create_many(tmp_path / "many.db", 3)
    assert await check(many) == (10, 10)
    assert (await measure_search_of_all(many, many, 1)).small_cost > 0


async def test_commands_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    filled = await create_long(tmp_path / "filled.db", 20)
    (row,) = measure_commands(
        [("export", ("export", "{session}", "-o", "{directory}/out"))], filled, filled, filled, "m"
    )
    assert row.unit == "µs per m"
    assert row.small_peak_mb is not None
    assert row.small_peak_mb > 10


def test_the_command_prints_its_options() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--messages" in done.stdout
