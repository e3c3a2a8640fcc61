"""With permission, the inspector pins, compacts and purges: after a confirmation, and only from its own pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mnesis import Engine, SessionNotFoundError
from mnesis.inspect import Inspector
from mnesis.inspect.paths import encode_id, session_path
from mnesis.store.sqlite import SqliteStore
from tests.support.inspected import HOSTILE_ID, build_database, config_of, reply


@pytest.fixture
def own_database(tmp_path: Path) -> Path:
    return asyncio.run(build_database(tmp_path))


@pytest.fixture
def editor(own_database: Path) -> Iterator[httpx.Client]:
    """A client of an inspector that allows changes."""
    engine = Engine(own_database, config=config_of(own_database.parent), llm=reply)
    with Inspector(engine, allow_changes=True, owns_engines=True) as inspector:
        origin = {"origin": inspector.address}
        with httpx.Client(
            base_url=inspector.address, follow_redirects=True, headers=origin, timeout=60, trust_env=False
        ) as client:
            client.get(inspector.url)
            yield client


@pytest.fixture
async def store(own_database: Path) -> SqliteStore:
    opened = SqliteStore(own_database)
    await opened.open()
    yield opened
    await opened.close()


async def post(editor: httpx.Client, path: str, **form: str) -> httpx.Response:
    return await asyncio.to_thread(lambda: editor.post(path, data=form))


async def test_a_message_is_pinned_and_unpinned(editor: httpx.Client, store: SqliteStore) -> None:
    for pinned, expected in (("1", True), ("0", False)):
        answer = await post(editor, "/s/main/pin", message_id=encode_id("result"), pinned=pinned)
        assert answer.status_code == 200
        seq = (await store.message("main", "result")).seq
        assert (seq in (await store.active_context("main")).pins) is expected


async def test_a_compaction_needs_its_confirmation(editor: httpx.Client, store: SqliteStore) -> None:
    assert (await post(editor, "/s/main/compact")).status_code == 400
    assert len(await store.compactions("main")) == 1
    assert (await post(editor, "/s/main/compact", confirm="yes")).status_code == 200
    assert len(await store.compactions("main")) == 2


@pytest.mark.parametrize("session_id", ["child", HOSTILE_ID])
async def test_a_purge_needs_the_id(editor: httpx.Client, store: SqliteStore, session_id: str) -> None:
    page = await asyncio.to_thread(editor.get, session_path(session_id, "purge"))
    assert "erased for good" in page.text
    assert (await post(editor, session_path(session_id, "purge"), confirm="other")).status_code == 400
    assert await store.session(session_id)
    assert (await post(editor, session_path(session_id, "purge"), confirm=session_id)).status_code == 200
    with pytest.raises(SessionNotFoundError):
        await store.session(session_id)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
async def test_other_sites_cannot_cause_changes(editor: httpx.Client, store: SqliteStore, origin: str) -> None:
    editor.headers["origin"] = origin
    assert (await post(editor, "/s/child/purge", confirm="child")).status_code == 403
    assert await store.session("child")
