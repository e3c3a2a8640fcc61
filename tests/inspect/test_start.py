"""The inspector starts from the command line and from a session, and stops without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from mnesis import Engine, MnesisSession
from mnesis.inspect import Inspector
from mnesis.inspect.paths import session_path
from mnesis.inspect.server import DEFAULT_HOST
from tests.support.warm_python import run_python, warm_command

ARGUMENTS = ["-m", "mnesis.cli", "inspect", "--no-browser"]


def get(url: str) -> httpx.Response:
    with httpx.Client(follow_redirects=True, timeout=60, trust_env=False) as client:
        return client.get(url)


def test_the_command_prints_the_url_and_ends_on_interrupt(database: Path) -> None:
    process = subprocess.Popen(
        warm_command(*ARGUMENTS, "main", "--db", str(database), has_mnesis=True), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = get(url)
        assert answer.status_code == 200
        assert answer.url.path == session_path("main")
        assert "read-only" in answer.text
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
        process.stdout.close()


def test_the_printed_address_never_refuses_a_connection(database: Path) -> None:
    inspector = Inspector(Engine(database), owns_engines=True)
    try:
        # The command prints the URL before the server accepts: a reader may be faster.
        with socket.create_connection((DEFAULT_HOST, inspector.port), timeout=60):
            pass
    finally:
        inspector.close()


def test_the_command_names_a_missing_database_and_session(database: Path, tmp_path: Path) -> None:
    for arguments in (["--db", str(tmp_path / "none.db")], ["nobody", "--db", str(database)]):
        done = run_python([*ARGUMENTS, *arguments], has_mnesis=True)
        assert done.returncode in (2, 3)
        assert "Traceback" not in done.stderr


def test_a_missing_extra_is_named(database: Path) -> None:
    code = "import sys; sys.modules['starlette'] = None; from mnesis.cli import main; main()"
    done = run_python(["-c", code, "inspect", "--db", str(database)], env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 2
    assert "mnesis-context[inspect]" in done.stderr


@pytest.mark.parametrize("db", [":memory:", "s.db"])
async def test_a_session_shows_itself_while_it_continues(tmp_path: Path, db: str) -> None:
    path = db if db == ":memory:" else tmp_path / db
    async with (
        Engine(path) as engine,
        MnesisSession.open(model=None, session_id="a/b", engine=engine) as session,
    ):
        await session.record("first", "answer")
        inspector = session.inspect(open_browser=False)
        try:
            page = await asyncio.to_thread(get, inspector.url_of(session_path("a/b", "log")))
            assert "first" in page.text
            await session.record("second", "answer")
            assert "second" in (await asyncio.to_thread(get, inspector.url_of(session_path("a/b", "log")))).text
            assert inspector.url in inspector._repr_html_()
        finally:
            await asyncio.to_thread(inspector.close)
        with pytest.raises(httpx.ConnectError):
            await asyncio.to_thread(get, inspector.url)
