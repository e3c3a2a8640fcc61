"""A damaged page of an encrypted database: what is on other pages is read, the index is built again, and errors are typed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mnesis import Engine, MnesisSession
from mnesis.errors import CorruptStoreError
from mnesis.store.sqlite.salvage import salvage
from tests.support.encrypted import encrypted_config

PAGE_BYTES = 4096
TURNS = 60
MAX_LOST_MESSAGES = 20
"""More messages than one page has."""
SAMPLES = 12


async def fill(directory: Path) -> bytes:
    path = directory / "whole.db"
    config = encrypted_config(directory)
    async with MnesisSession.open(model=None, session_id="ada", db_path=path, config=config) as session:
        for number in range(TURNS):
            await session.record(f"question {number} " + f"word{number} " * 50, "answer " * 40)
        await session.search("question")
    return path.read_bytes()


async def count_hits(path: Path, directory: Path, *, reindex: bool = False) -> int:
    async with Engine(path, config=encrypted_config(directory)) as engine:
        if reindex:
            await engine.store.reindex()
        return len((await engine.search("question", limit=TURNS)).hits)


async def test_a_damaged_page_costs_what_is_on_it(tmp_path: Path) -> None:
    content = await fill(tmp_path)
    pages = range(1, len(content) // PAGE_BYTES)
    lost, found = [], {True: 0, False: 0}
    for number, page in enumerate(pages[:: len(pages) // SAMPLES]):
        damaged = bytearray(content)
        damaged[page * PAGE_BYTES + 100] ^= 0xFF
        path, copy = tmp_path / f"{page}.db", tmp_path / f"{page}-rescued.db"
        path.write_bytes(damaged)
        try:
            result = await salvage(path, copy, config=encrypted_config(tmp_path).store)
        except CorruptStoreError:  # the page has definitions of tables, without which nothing can be found
            lost.append(page)
            continue
        assert result.sessions[0].message_count >= 2 * TURNS - MAX_LOST_MESSAGES, page
        assert await count_hits(copy, tmp_path) >= TURNS - MAX_LOST_MESSAGES, page
        reindex = number % 2 == 0
        with suppress(CorruptStoreError):  # a page that a search reads besides the index: it skips no message silently
            hits = await count_hits(path, tmp_path, reindex=reindex)
            assert hits == TURNS, page
            found[reindex] += 1
    assert min(found.values()) > SAMPLES / 5
    assert len(lost) < SAMPLES / 3
