from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.providers.strict_server import StrictServer


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real client, without its retries and its network."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module = importlib.import_module("litellm")
    monkeypatch.setattr(module, "suppress_debug_info", True)
    monkeypatch.setattr(module, "num_retries", 0)
    return module


@pytest.fixture
def register() -> Iterator[Callable[[StrictServer], Any]]:
    """Close each server that a test opens."""
    servers: list[StrictServer] = []

    def remember(server: StrictServer) -> StrictServer:
        servers.append(server)
        return server

    yield remember
    for server in servers:
        server.close()
