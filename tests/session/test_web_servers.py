"""Several workers of a web server share sessions."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from mnesis import sync

pytest.importorskip("fastapi")
ROOT = Path(__file__).parents[2]
REQUESTS = 24


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.support.chat_app:app", "--port", str(port), "--workers", "2"]
    environment = {**os.environ, "CHAT_DB": str(tmp_path / "chat.db")}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_workers_share_sessions_and_block_no_loop(server: str, tmp_path: Path) -> None:
    def ask(number: int) -> Any:
        deadline = time.monotonic() + 300  # for what hangs; a worker imports for seconds
        while True:
            try:
                return httpx.post(f"{server}/chat/{number % 2}", params={"text": str(number)}, timeout=300).json()
            except httpx.ConnectError:
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.1)  # the server does not listen yet

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(ask, range(REQUESTS)))
    assert [reply["blocking_calls"] for reply in replies] == [[]] * REQUESTS
    for thread in range(2):
        session = sync.SyncSession.load(str(thread), db_path=tmp_path / "chat.db")
        texts = [message.text_content() for message in session.messages()]
        session.close()
        numbers = range(thread, REQUESTS, 2)
        assert sorted(text for text in texts if text.isdigit()) == sorted(map(str, numbers))
        assert sorted(text for text in texts if text.startswith("note")) == sorted(f"note on {n}" for n in numbers)
        assert len(texts) == 3 * len(numbers)
