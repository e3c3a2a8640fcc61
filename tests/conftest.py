"""What holds for every test: no network but loopback, no home but a temporary one, no settings from outside."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.support.blocking import blocking_calls, refuse_blocking_calls
from tests.support.litellm_clients import close_clients_of_ended_loops

pytest_plugins = ["tests.support.suite"]

_attempts: list[str] = []
_allowed = False
_numbers = count()
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE")


WATCHED_FOLDERS = {"session", "compaction", "langchain", "llamaindex", "agents_sdk", "pydantic_ai"}
"""The tests that fail when an event loop is blocked: those of the core and of the adapters."""


class NetworkForbiddenError(ConnectionError):
    """A test tried to leave this machine."""


def pytest_xdist_auto_num_workers() -> int:
    """Start one worker more than there are processors, because some tests wait for other processes."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1) + 1


def _is_loopback(host: object) -> bool:
    if host in ("localhost", "", None, b"localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%", 1)[0]).is_loopback
    except ValueError:
        return False


def _refuse_unless_loopback(host: object) -> None:
    if not _allowed and not _is_loopback(host):
        _attempts.append(repr(host))
        raise NetworkForbiddenError(f"tests may only use loopback, not {host!r}")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Name lookups and connections that leave this machine fail."""
    patch = pytest.MonkeyPatch()
    look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def guarded_look_up(host: Any, *arguments: Any, **named: Any) -> Any:
        _refuse_unless_loopback(host)
        return look_up(host, *arguments, **named)

    def guarded_connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_loopback(address[0])
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_loopback(address[0])
        return connect_ex(self, address)

    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    yield
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Code of this project that blocks a running event loop raises `BlockingError`."""
    if request.path.parent.name not in WATCHED_FOLDERS:
        yield
        return
    with refuse_blocking_calls():
        yield


@pytest.fixture(autouse=True)
def _own_surroundings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A home of its own for each test and no settings of the user's; an attempt to reach the network or to block
    an event loop fails the test, also where the code under test swallowed the error.
    """
    global _allowed
    _allowed = request.node.get_closest_marker("live") is not None
    if not _allowed:
        for name in [n for n in os.environ if n.startswith("MNESIS_") or n in KEYS]:
            monkeypatch.delenv(name)
    # litellm looks for this file in the event loop, whenever it creates a client.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    # Not mktemp: it lists the folders of all earlier tests, and keeps this one.
    home = tmp_path_factory.getbasetemp() / f"home{next(_numbers)}"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    _attempts.clear()
    blocking_calls.clear()
    close_clients_of_ended_loops()
    yield
    shutil.rmtree(home, ignore_errors=True)
    assert not _attempts, f"the network was used: {_attempts}"
    assert not blocking_calls, f"an event loop was blocked:\n{blocking_calls[0]}"
