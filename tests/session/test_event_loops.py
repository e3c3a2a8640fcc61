"""Law 22: no blocking call runs in an event loop, whichever loop it is, from the first call of a process on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisEvent, MnesisSession
from mnesis.concurrency import import_in_thread
from mnesis.errors import ConfigurationError
from mnesis.models.config import MnesisConfig
from tests.support.blocking import blocking_calls
from tests.support.warm_python import run_python

ROOT = Path(__file__).parents[2]
EVERY_TEXT = ["native", "history", "memory", "memory's answer", "agent", "answer 1", "llama"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_no_api_blocks_the_loop_in_a_new_process(loop: str, tmp_path: Path) -> None:
    command = ["-m", "tests.support.every_api", str(tmp_path / "a.db"), loop]
    if loop == "uvloop":  # the other one imports the frameworks, too
        pytest.importorskip("uvloop")
        done = run_python(command, cwd=ROOT)
    else:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert [line for line in done.stdout.splitlines() if line in EVERY_TEXT] == EVERY_TEXT


async def test_the_detector_sees_calls_that_block() -> None:
    # Without this, the test above could pass because nothing is watched.
    from blockbuster import BlockingError

    from mnesis.tokens import encodings

    with pytest.raises(BlockingError):
        encodings.load_encoding.__wrapped__("o200k_base")
    assert blocking_calls
    blocking_calls.clear()


async def test_an_import_that_another_task_began_is_waited_for_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_part.py").write_text("import builtins\nbuiltins.gate_of_slow_part.wait()\nis_ready = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    gate = threading.Event()
    monkeypatch.setattr("builtins.gate_of_slow_part", gate, raising=False)
    first = asyncio.create_task(import_in_thread("slow_part"))
    while "slow_part" not in sys.modules:  # noqa: ASYNC110  # an import tells nobody that it began
        await asyncio.sleep(0)
    second = asyncio.create_task(import_in_thread("slow_part"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    gate.set()
    await asyncio.gather(first, second)
    assert sys.modules.pop("slow_part").is_ready


async def test_an_engine_behind_a_link_shares_its_bus_and_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    heard: list[str] = []

    def hear(event: MnesisEvent, payload: Any) -> None:
        heard.append(payload.session_id)

    one, other = Engine(tmp_path / "real.db"), Engine(tmp_path / "link.db")
    unsubscribe = other.events.subscribe(MnesisEvent.SESSION_CREATED, hear)
    view = other.events.for_session("a")
    view.subscribe(MnesisEvent.SESSION_CREATED, hear)
    async with one, other:
        assert one.store is other.store
        await MnesisSession.create(model="none", session_id="a", engine=one)
        assert heard == ["a", "a"]
        unsubscribe()
        view.clear()
        await MnesisSession.create(model="none", session_id="b", engine=one)
        assert heard == ["a", "a"]
        async with Engine(tmp_path / "link.db") as third:
            assert third.store is one.store
    async with Engine(tmp_path / "link.db") as again:
        assert len((await again.sessions()).sessions) == 2


async def test_other_settings_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    async with Engine(tmp_path / "real.db"):
        other = Engine(tmp_path / "link.db", config=MnesisConfig(store={"durability": "full"}))
        with pytest.raises(ConfigurationError, match="durability"):
            await other.open()
        await other.close()


async def test_a_relative_path_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Engine("a.db") as one, Engine(tmp_path / "a.db") as other:
        assert one.store is other.store
