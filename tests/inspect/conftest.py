"""An inspector of a database with everything in it, and a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mnesis import Engine
from mnesis.inspect import Inspector
from tests.support.browser import missing_browser, start_browser
from tests.support.inspected import build_database, config_of


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a database that no test changes."""
    return asyncio.run(build_database(tmp_path_factory.mktemp("inspected")))


@pytest.fixture(scope="module")
def inspector(database: Path) -> Iterator[Inspector]:
    """A read-only inspector, as `mnesis inspect` starts it."""
    config = config_of(database.parent)
    read_only = config.model_copy(update={"store": config.store.model_copy(update={"read_only": True})})
    search_engine = Engine(database, config=config)
    with Inspector(Engine(database, config=read_only), search_engine=search_engine, owns_engines=True) as running:
        yield running


@pytest.fixture
def client(inspector: Inspector) -> Iterator[httpx.Client]:
    """A client that has opened the URL of the inspector."""
    with httpx.Client(base_url=inspector.address, follow_redirects=True, timeout=60, trust_env=False) as opened:
        assert opened.get(inspector.url).status_code == 200
        yield opened


@pytest.fixture(scope="session")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium, or a skip with the reason."""
    if reason := missing_browser():
        pytest.skip(reason)
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(shared_browser: Any, inspector: Inspector) -> Any:
    """The browser, after it has opened the URL of the inspector."""
    shared_browser.get(inspector.url)
    return shared_browser
