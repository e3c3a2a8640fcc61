"""Maintenance killed at a sample of its steps. `python -m tests.support.upkeep_operations` kills at all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from mnesis.cli.app import cli
from mnesis.system.process_ids import is_process_dead, process_id
from mnesis.system.unfinished_files import LEFTOVER_SECONDS, find_leftovers, remove_leftovers, unfinished_path
from mnesis.testing.faults import Operation, sweep_kills
from tests.support.samples import sampled
from tests.support.upkeep_operations import OPERATIONS

SAMPLE = sampled(4, at_least=2)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_killed_at_any_step_it_leaves_nothing_or_a_marked_state(operation: Operation, tmp_path: Path) -> None:
    steps = [1 + 5 * number * (number + 1) // 2 for number in range(SAMPLE)]
    for inside in (False, True):
        directory = tmp_path / str(inside)
        directory.mkdir()
        result = sweep_kills(operation, directory, inside=inside, steps=steps[int(inside) :])
        assert result.violations == []
        assert result.faults > 0


def test_leftovers_are_files_of_processes_that_ended(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from mnesis.system.unfinished_files import unfinished_path as u; "
    code += "p = u(Path(sys.argv[1])); p.touch(); p.with_name(p.name + '-wal').touch()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], check=True)
    ours, old = unfinished_path(tmp_path / "b.db"), unfinished_path(tmp_path / ("c" * 200 + ".db"))
    foreign = tmp_path / ".x.mnesis-unfinished"
    for path in (ours, old, foreign):
        path.touch()
    long_ago = time.time() - LEFTOVER_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    assert len(list(find_leftovers(tmp_path))) == 3
    assert remove_leftovers(tmp_path) == 3
    assert sorted(tmp_path.iterdir()) == sorted([ours, foreign])
    assert list(find_leftovers(tmp_path / "missing")) == []


def test_only_processes_of_this_machine_are_known_to_be_dead() -> None:
    assert not is_process_dead(process_id())
    host, _, _ = process_id().split("-")
    assert is_process_dead(f"{host}-{2**22 + 1}-5")
    assert not is_process_dead(f"{'0' * 16}-{2**22 + 1}-5")
    assert not is_process_dead("nonsense")


def test_doctor_names_the_command_that_removes_leftovers(tmp_path: Path) -> None:
    database = tmp_path / "s.db"
    assert CliRunner().invoke(cli, ["demo", "--turns", "1", "--keep", str(database)]).exit_code == 0
    leftover = unfinished_path(tmp_path / "copy.db")
    leftover.touch()
    os.utime(leftover, (0, 0))
    shown = CliRunner().invoke(cli, ["doctor", "--db", str(database)]).stdout
    assert "1 unfinished copies" in shown
    assert "mnesis migrate" in shown
    assert CliRunner().invoke(cli, ["migrate", "--db", str(database)]).exit_code == 0
    assert not leftover.exists()
