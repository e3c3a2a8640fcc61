"""Following a database costs next to nothing while nothing happens."""

from pathlib import Path

from benchmarks.follow import measure_delays, measure_idle_fraction


async def test_following_an_idle_database_polls_rarely(tmp_path: Path) -> None:
    # The figure is for the benchmark; here only what load cannot change: CPU time, far above the promised 1 %.
    assert await measure_idle_fraction(tmp_path / "s.db", seconds=1.0) < 0.2


async def test_every_record_of_another_process_arrives(tmp_path: Path) -> None:
    assert len(await measure_delays(tmp_path / "s.db", count=5)) == 5
