"""Several workers of a web server share sessions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from mnesis import sync
from tests.support.warm_python import warm_command

pytest.importorskip("fastapi")
ROOT = Path(__file__).parents[2]
REQUESTS = 24


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    environment = {**os.environ, "CHAT_DB": str(tmp_path / "chat.db")}
    command = warm_command("-m", "tests.support.drivers.web_workers", "tests.support.chat_app:app")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def test_workers_share_sessions_and_block_no_loop(server: str, tmp_path: Path) -> None:
    def ask(number: int) -> Any:
        return httpx.post(f"{server}/chat/{number % 2}", params={"text": str(number)}, timeout=300).json()

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
