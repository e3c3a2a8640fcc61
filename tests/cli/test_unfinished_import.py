"""An import that was killed is marked as unfinished, and the next one replaces what it left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from mnesis import Engine
from mnesis.cli.import_replay import Replay, parse_export
from mnesis.cli.import_session import KINDS
from mnesis.testing.store_samples import store_conversation
from tests.cli.conftest import Run
from tests.store.children import Report, start


@pytest.fixture
def exported(tmp_path: Path, run: Run) -> Path:
    """An export of a session with 20 turns."""

    async def fill() -> None:
        async with Engine(tmp_path / "source.db") as engine:
            await store_conversation(engine.store, 20, "long")
            await engine.store.update_session("long", title="A talk", metadata={"k": 1})

    asyncio.run(fill())
    file = tmp_path / "long.jsonl"
    assert run("export", "long", "--db", tmp_path / "source.db", "-o", file).exit_code == 0
    return file


def import_and_die(file: Path, path: Path, count: int) -> None:
    """Import in a child process that is killed after `count` appends."""

    lines = [json.loads(line) for line in file.read_text().splitlines()]
    by_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in KINDS}

    async def work(report: Report) -> None:
        appends = 0

        def on_append(_: int) -> None:
            nonlocal appends
            appends += 1
            if appends == count:
                os.kill(os.getpid(), signal.SIGKILL)

        async with Engine(path) as engine:
            await Replay(engine.store, parse_export(by_kind, None), on_append).run()

    assert start(work).wait()[1] == -signal.SIGKILL


@pytest.mark.parametrize("count", [1, 7, 20])
def test_a_killed_import_is_marked_and_the_next_one_replaces_it(
    run: Run, exported: Path, tmp_path: Path, count: int
) -> None:
    path = tmp_path / "target.db"
    import_and_die(exported, path, count)
    assert "[unfinished import]" in run("ls", "--db", path).stdout
    checked = run("doctor", "--db", path, "--json")
    findings = {finding["check"]: finding for finding in json.loads(checked.stdout)}
    assert "mnesis import" in findings["unfinished"]["fix"]
    assert run("import", exported, "--db", path).exit_code == 0
    assert "unfinished" not in run("ls", "--db", path).stdout + run("doctor", "--db", path).stdout
    again = run("import", exported, "--db", path)
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)

    async def compare() -> None:
        async with Engine(path) as target, Engine(tmp_path / "source.db") as source:
            assert await target.store.messages("long") == await source.store.messages("long")
            assert (await target.store.session("long")).metadata == {"k": 1}

    asyncio.run(compare())


def test_what_a_killed_import_left_can_be_purged(run: Run, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "target.db"
    import_and_die(exported, path, 5)
    assert run("purge", "long", "--apply", "--db", path).exit_code == 0
    assert "unfinished" not in run("doctor", "--db", path).stdout
