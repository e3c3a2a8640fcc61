"""The files of an open database: nothing else opens them, and none of them disappears unnoticed.

Why: closing any descriptor of a file drops the locks of the process on it (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mnesis import Engine, FileConfig, LLMMap, MnesisConfig, MnesisSession
from mnesis.cli.app import cli
from mnesis.errors import ConfigurationError, FileError, StoreReplacedError, UnsuitableFileError
from mnesis.files import FileStorage, LargeFileHandler, source_file
from mnesis.files.explorers import explore
from mnesis.models.message import FilePart
from mnesis.store.sqlite import SqliteStore
from mnesis.system.open_files import describe_open_file, find_identity, open_descriptor
from tests.store.children import Report, start

SUFFIXES = ["", "-wal", "-shm"]
LINKS: dict[str, Callable[[Path, Path], Path]] = {
    "path": lambda target, where: target,
    "symlink": lambda target, where: _linked(where / "symlink", target, os.symlink),
    "hard link": lambda target, where: _linked(where / "hard", target, os.link),
    "link to its directory": lambda target, where: _linked(where / "up", target.parent, os.symlink) / target.name,
    "dotted": lambda target, where: target.parent / ".." / target.parent.name / target.name,
}


def _linked(link: Path, target: Path, function: Any) -> Path:
    function(target, link)
    return link


def answer(messages: Any) -> str:
    return json.dumps("x")


def settings(where: Path, **more: Any) -> MnesisConfig:
    return MnesisConfig(file=FileConfig(storage_dir=where / "kept", inline_threshold=100, **more))


@pytest.fixture
def opened_paths() -> Iterator[list[str]]:
    """The paths that Python code opens. An audit hook cannot be removed, so it is silenced afterwards."""
    paths: list[str] | None = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if paths is not None and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            paths.append(os.fsdecode(arguments[0]))

    sys.addaudithook(note)
    yield paths
    paths = None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("link", LINKS)
async def test_no_name_of_an_open_database_is_taken_in(
    suffix: str, link: str, tmp_path: Path, opened_paths: list[str]
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "data").mkdir()
    db = tmp_path / "data" / "s.db"
    async with MnesisSession.open(model=None, session_id="s", db_path=db, config=settings(tmp_path)) as session:
        await session.record("one", "1")
        path = LINKS[link](Path(f"{db}{suffix}"), tmp_path / "links")
        opened_paths.clear()
        for attempt in (
            lambda: session.record([FilePart(path=str(path))], "ok"),
            lambda: session.files.handle_file(path),
            lambda: LargeFileHandler().handle_file(path),
            lambda: asyncio.to_thread(explore, path, "x.db"),
        ):
            with pytest.raises(UnsuitableFileError, match="open in this process"):
                await attempt()
        with pytest.raises(UnsuitableFileError, match="open in this process"):
            await LLMMap(llm=answer).run_all(path, "{{ item }}", {"type": "string"})
        assert not {find_identity(each) for each in opened_paths} & {find_identity(f"{db}{each}") for each in SUFFIXES}
        assert len(await session.messages()) == 2


async def test_turns_survive_after_the_own_database_was_offered_as_a_file(tmp_path: Path) -> None:
    db = tmp_path / "s.db"

    async def use(report: Report) -> None:
        session = await MnesisSession.create(model=None, session_id="s", db_path=db, config=settings(tmp_path))
        await session.record("one", "1")
        with pytest.raises(UnsuitableFileError):
            await session.record([FilePart(path=str(db))], "ok")
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", OTHER_PROCESS, str(db))
        assert await other.wait() == 0
        await session.record("two", "2")
        report("acknowledged")
        os.kill(os.getpid(), 9)

    child = await asyncio.to_thread(start, use)
    lines, code = await asyncio.to_thread(child.wait)
    assert (lines, code) == (["acknowledged"], -9)
    async with MnesisSession.open(model=None, session_id="s", db_path=db) as session:
        assert [m.text_content() for m in await session.messages()] == ["one", "1", "other", "x", "two", "2"]


OTHER_PROCESS = """
import asyncio, sys
from mnesis import MnesisSession
async def main():
    async with MnesisSession.open(model=None, session_id="s", db_path=sys.argv[1]) as session:
        await session.record("other", "x")
asyncio.run(main())
"""


@pytest.mark.parametrize("link", LINKS)
async def test_stored_files_are_not_taken_in_again(link: str, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    async with MnesisSession.open(model=None, db_path=tmp_path / "s.db", config=settings(tmp_path)) as session:
        stored = session.files.storage.add(b"a stored file" * 100)
        with pytest.raises(UnsuitableFileError, match="stored files are kept"):
            await session.record([FilePart(path=str(LINKS[link](stored.path, tmp_path / "links")))], "ok")


async def test_a_file_may_be_taken_in_once_its_database_is_closed(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    store = SqliteStore(db)
    await store.open()
    identity = find_identity(db)
    assert identity is not None
    assert describe_open_file(identity) == f"the database {str(db)!r}"
    await store.close()
    assert describe_open_file(identity) is None
    result = await LargeFileHandler(config=settings(tmp_path).file).handle_file(db)
    assert result.file_ref is not None
    assert result.file_ref.file_type == "sqlite"


async def test_a_renamed_database_is_still_recognized(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    (tmp_path / "s.db").rename(tmp_path / "moved.db")
    with pytest.raises(UnsuitableFileError, match="open in this process"):
        await LargeFileHandler(config=settings(tmp_path).file).handle_file(tmp_path / "moved.db")
    await store.close()


async def test_a_store_that_was_never_closed_protects_nothing_once_collected(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", None)
    await store.open()
    identity = find_identity(tmp_path / "s.db")
    assert identity
    await store.close()
    del store
    gc.collect()
    assert describe_open_file(identity) is None


async def test_a_file_opened_before_its_database_is_not_closed_under_it(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    store = SqliteStore(db)
    await store.open()
    await store.close()
    with open_descriptor(db) as descriptor:
        await store.open()
    os.fstat(descriptor)  # still open: closing it would drop the locks of the database
    await store.close()
    os.close(descriptor)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_a_file_that_belongs_to_a_database_is_not_opened_as_one(suffix: str, tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db"):
        with pytest.raises(ConfigurationError, match="open in this process"):
            await Engine(f"{tmp_path / 's.db'}{suffix}").open()


async def test_a_hard_link_to_an_open_database_is_not_a_second_database(tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "same")
    async with Engine(tmp_path / "s.db"):
        os.link(tmp_path / "s.db", tmp_path / "hard.db")
        with pytest.raises(ConfigurationError, match="open in this process"):
            await Engine(tmp_path / "hard.db").open()
        async with Engine(tmp_path / "same" / "s.db"):
            pass


@pytest.mark.parametrize("name", ["s.db-wal", "s.db-shm", "s.db-journal", "kept/backup.db", "link/s.db-journal"])
async def test_backups_do_not_take_the_names_of_open_files(name: str, tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "link")
    (tmp_path / "kept").mkdir()
    storage = FileStorage(tmp_path / "kept")
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    with pytest.raises(ConfigurationError, match="open in this process"):
        await store.backup(tmp_path / name)
    await store.close()
    assert storage.directory.is_dir()


async def test_outputs_do_not_replace_open_databases(tmp_path: Path) -> None:
    async with MnesisSession.open(model=None, session_id="s", db_path=tmp_path / "s.db") as session:
        await session.record("one", "1")
        with pytest.raises(ConfigurationError, match="open in this process"):
            await LLMMap(llm=answer).run_all(["a"], "{{ item }}", {"type": "string"}, output_path=tmp_path / "s.db")
        arguments = ["export", "s", "-o", str(tmp_path / "s.db"), "--force", "--db", str(tmp_path / "s.db")]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        assert result.exit_code != 0
        await session.record("two", "2")
        assert len(await session.messages()) == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("change", ["unlink", "rename", "replace"])
async def test_a_missing_file_is_noticed_before_the_next_write(suffix: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / f"s.db{suffix}"
    async with MnesisSession.open(model=None, session_id="s", db_path=tmp_path / "s.db") as session:
        await session.record("one", "1")
        assert path.exists()
        path.rename(tmp_path / "elsewhere")
        if change == "unlink":
            (tmp_path / "elsewhere").unlink()
        elif change == "replace":
            path.write_bytes(b"")
        for _ in range(2):
            with pytest.raises(StoreReplacedError, match=path.name):
                await session.record("two", "2")


async def test_another_process_that_comes_and_goes_is_not_a_replacement(tmp_path: Path) -> None:
    async with MnesisSession.open(model=None, session_id="s", db_path=tmp_path / "s.db") as session:
        for _ in range(2):
            other = await asyncio.create_subprocess_exec(sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "s.db"))
            assert await other.wait() == 0
            await session.record("mine", "ok")
        assert len(await session.messages()) == 8


async def test_files_come_from_the_allowed_roots_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for each in (inside, outside):
        each.mkdir()
        (each / "note.txt").write_text("A note.")
    (inside / "away.txt").symlink_to(outside / "note.txt")
    (inside / "out").symlink_to(outside)
    (outside / "home.txt").symlink_to(inside / "note.txt")
    (tmp_path / "in-name").mkdir()
    (tmp_path / "in-name" / "note.txt").write_text("A note.")
    handler = LargeFileHandler(config=settings(tmp_path, allowed_roots=[inside]).file)
    for name in ("in/note.txt", "out/home.txt", "out/../in/note.txt"):
        assert (await handler.handle_file(tmp_path / name)).inline_content == "A note."
    for name in ("out/note.txt", "in/away.txt", "in/out/note.txt", "in/../out/note.txt", "in-name/note.txt"):
        with pytest.raises(UnsuitableFileError, match="allowed_roots"):
            await handler.handle_file(tmp_path / name)
    nowhere = LargeFileHandler(config=settings(tmp_path, allowed_roots=()).file)
    with pytest.raises(UnsuitableFileError, match="allowed_roots"):
        await nowhere.handle_file(inside / "note.txt")
    with pytest.raises(ValueError, match="allowed_roots"):
        FileConfig(allowed_roots="in")  # type: ignore[arg-type]


async def test_a_link_switched_while_it_is_opened_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for each in (inside, outside):
        each.mkdir()
        (each / "note.txt").write_text(each.name)
    (tmp_path / "link").symlink_to(inside)
    resolve = source_file.os.path.realpath

    def switched(path: Any) -> str:
        resolved = resolve(path)
        if str(path).endswith("note.txt") and inside.exists():
            inside.rename(tmp_path / "was")
            inside.symlink_to(outside)
        return resolved

    monkeypatch.setattr(source_file.os.path, "realpath", switched)
    handler = LargeFileHandler(config=settings(tmp_path, allowed_roots=[inside]).file)
    with pytest.raises(FileError):
        await handler.handle_file(inside / "note.txt")
