"""Tracing that is not used costs nothing: nothing is imported, and an observation is one comparison."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mnesis.telemetry import hooks


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_instrument_no_session_loads_opentelemetry(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from mnesis import MnesisSession
async def main():
    async with MnesisSession.create(model=None, db_path={str(tmp_path / "a.db")!r}) as session:
        await session.record("a", "b")
        await session.search("a")
asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = run(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_the_extra_the_error_names_it() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None\nfrom mnesis.telemetry import instrument\ninstrument()"
    assert "pip install 'mnesis-context[otel]'" in run(code).stderr


def test_an_observation_that_nobody_makes_is_one_shared_object() -> None:
    observation = hooks.observe("turn", session_id="ada")
    assert observation is hooks.observe_store("sqlite", run) is hooks.NOT_OBSERVED
    with observation as entered:
        entered.set(level=1)
    with observation.begin().current():
        observation.finish()
    assert not observation.is_recorded
