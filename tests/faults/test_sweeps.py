"""A sample of the fault suite: every operation of every API, on every store, killed and failed at some of its steps.

`python -m mnesis.testing.fault_report` kills at every step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pytest

from mnesis.models.message import text_message
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.fault_operations import all_operations
from mnesis.testing.fault_report import format_report, main, read_counts, run_kills
from mnesis.testing.fault_targets import SQLITE, Target, encrypted_target, memory_target, postgres_target
from mnesis.testing.faults import Operation, Scene, sweep_failures, sweep_kills
from mnesis.testing.history import History, check_database
from tests.support.postgres import reused_schema
from tests.support.samples import sampled

SAMPLE = sampled(4, at_least=2)
MAX_STRIDE = 7
FEWEST_STEPS = 4
"""No operation has fewer."""
OPERATIONS = {f"{operation.api} {operation.name}": operation for operation in all_operations()}
ON_OTHER_STORES = [
    (store, name)
    for store in ("encrypted", "memory", "postgres")
    for name, operation in OPERATIONS.items()
    if store in operation.stores
]


@contextmanager
def target_of(store: str) -> Iterator[Target]:
    if store == "postgres":
        with reused_schema() as url:
            yield postgres_target(url)
    else:
        yield memory_target() if store == "memory" else encrypted_target()


def _sample(name: str, count: int) -> list[int]:
    """Choose steps, which differ between operations, so that all of them together are interrupted everywhere."""
    choose = random.Random(name)
    return list(accumulate(choose.randint(1, MAX_STRIDE if number else FEWEST_STEPS) for number in range(count)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_any_step_it_loses_nothing_and_tears_nothing(name: str, tmp_path: Path) -> None:
    before, inside = tmp_path / "before", tmp_path / "inside"
    before.mkdir()
    inside.mkdir()
    result = sweep_kills(OPERATIONS[name], before, steps=_sample(name, SAMPLE))
    assert result.violations == []
    assert result.faults > 0
    assert sweep_kills(OPERATIONS[name], inside, inside=True, steps=_sample(name, SAMPLE // 2)).violations == []


@pytest.mark.parametrize(("store", "name"), ON_OTHER_STORES)
async def test_failing_on_other_stores_it_tears_nothing_either(store: str, name: str, tmp_path: Path) -> None:
    # A step of the store in memory is a verb: there are fewer of them, and they take no time.
    steps = range(1, FEWEST_STEPS) if store == "memory" else _sample(f"{store} {name}", SAMPLE // 2)
    with target_of(store) as target:
        result = await sweep_failures(OPERATIONS[name], tmp_path, steps=steps, target=target)
    assert result.violations == []
    assert (result.faults > 0, result.store) == (True, store)


@pytest.mark.parametrize(("store", "name"), [pair for pair in ON_OTHER_STORES if pair[0] != "memory"])
def test_killed_on_other_stores_it_tears_nothing_either(store: str, name: str, tmp_path: Path) -> None:
    with target_of(store) as target:
        result = sweep_kills(OPERATIONS[name], tmp_path, steps=_sample(f"{store} {name}", SAMPLE // 2), target=target)
    assert result.violations == []
    assert (result.faults > 0, result.store) == (True, store)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_failing_at_any_step_it_raises_a_typed_error_and_tears_nothing(name: str, tmp_path: Path) -> None:
    result = await sweep_failures(OPERATIONS[name], tmp_path, steps=_sample(name, SAMPLE))
    assert result.violations == []
    assert result.faults > 0


async def _lose_the_answer(scene: Scene) -> None:
    """An operation that acknowledges before it stores, and stores an atomic attempt in two transactions."""
    store = SqliteStore(scene.path)
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    texts = scene.attempt("s", "question", "answer")
    scene.acknowledge()
    scene.arm()
    for text in texts:
        await store.append("s", Append([text_message("user", text, token_count=1)]))
    await store.close()


def test_a_sweep_finds_what_is_lost_or_torn(tmp_path: Path) -> None:
    """The suite itself: an operation that breaks the promises is seen."""
    result = sweep_kills(Operation("test", "broken", _lose_the_answer), tmp_path)
    assert any("lost" in violation for violation in result.violations)
    assert result.faults > 5


async def test_a_database_that_cannot_be_read_is_a_violation(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"x" * 4096)
    assert "cannot be read" in (await check_database(tmp_path / "s.db", History()))[0]


def test_the_command_counts_kills_per_operation() -> None:
    report = format_report(list(run_kills(3, only="session record", store="sqlite")))
    assert "sqlite     session      record" in report
    assert report.splitlines()[-1].split() == ["all", "3", "0"]
    with pytest.raises(SystemExit):
        list(run_kills(1, only="no such operation"))


def test_sweeps_in_other_processes_count_like_those_in_this_one() -> None:
    """Each sweep is finished, so two jobs may kill more than asked; no operation is swept twice while another waits."""
    counts = list(run_kills(12, only="record", store="sqlite", jobs=2))
    assert sum(count.kills for count in counts) >= 12
    assert {(count.api, count.operation) for count in counts} == {("session", "record"), ("sync", "record")}
    assert [violation for count in counts for violation in count.violations] == []


def test_a_sweep_continues_on_a_fresh_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of the old database is not looked for in the new one, and what `prepare` stored is."""
    monkeypatch.setattr("mnesis.testing.faults.KILLS_PER_DATABASE", 2)
    result = sweep_kills(OPERATIONS["engine reindex"], tmp_path, steps=range(1, 6))
    assert (result.faults, result.violations) == (5, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "prepared"]


def test_the_command_continues_where_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kills.json"
    arguments = ["--only", "session record", "--store", SQLITE.name, "--resume", str(file)]
    for kills in (2, 4):
        with pytest.raises(SystemExit, match="0"):
            main(["--kills", str(kills), *arguments])
        assert sum(count.kills for count in read_counts(file)) == kills
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "4", "0"]
