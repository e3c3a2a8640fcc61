"""Tests that never end, each in another way, and one that does. `tests/test_hanging_tests.py` runs them with short limits."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading

import pytest


async def test_hangs_in_a_coroutine() -> None:
    await asyncio.Event().wait()


def test_hangs_in_a_thread() -> None:
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    thread.join()


def test_hangs_in_a_child() -> None:
    subprocess.run([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, check=True)


def test_hangs_in_a_call_of_c() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


@pytest.fixture
def hanging() -> None:
    threading.Event().wait()


@pytest.mark.usefixtures("hanging")
def test_hangs_in_a_fixture() -> None: ...


def test_ends() -> None: ...
