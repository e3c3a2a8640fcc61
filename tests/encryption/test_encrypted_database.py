"""Encrypted databases: nothing of them can be read without the key, and the wrong key is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mnesis import Engine, MnesisConfig, MnesisSession
from mnesis.config import StoreConfig
from mnesis.errors import ConfigurationError, CorruptStoreError, EncryptionKeyError, MnesisStoreError
from mnesis.models.message import FilePart, TextPart
from mnesis.store.postgres import PostgresStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.llm import ScriptedLLM
from tests.support.encrypted import KEY, OTHER_KEY, PASSPHRASE, encrypted, encrypted_config, find_on_disk

CANARY = "Zirkuspferd"
LOG = f"{CANARY} line of a log\n" * 400


async def write(directory: Path, key: object = KEY) -> None:
    """A session with messages, a stored file, a summary, a search index, and metadata, all with the canary."""
    llm = ScriptedLLM(lambda messages: f"Summary: the {CANARY} was mentioned.")
    async with MnesisSession.open(
        model="openai/gpt-4o",
        session_id=f"{CANARY}-session",
        system_prompt=f"You know the {CANARY}.",
        db_path=directory / "s.db",
        config=encrypted_config(directory, key),
        llm=llm,
    ) as session:
        for number in range(6):
            await session.record(f"{CANARY} question {number} {'word ' * 300}", f"{CANARY} answer {number}")
        await session.record([TextPart(text="see"), FilePart(name=f"{CANARY}.log", text=LOG)], "seen")
        await session.compact()
        assert (await session.search(CANARY)).hits
        assert find_on_disk(directory, CANARY) == []  # with the write-ahead log, while it is open


@pytest.mark.parametrize("key", [KEY, PASSPHRASE], ids=["raw", "passphrase"])
async def test_nothing_that_was_stored_is_on_disk(tmp_path: Path, key: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    for variable in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "tmp"))
    await write(tmp_path, key)
    assert (tmp_path / "s.db").stat().st_size > 40_000
    assert find_on_disk(tmp_path, CANARY, "SQLite format 3", "gpt-4o", "messages") == []
    async with MnesisSession.load(
        f"{CANARY}-session", db_path=tmp_path / "s.db", config=encrypted_config(tmp_path, key)
    ) as session:
        assert (await session.messages())[0].text_content().startswith(f"{CANARY} question 0")
        assert (await session.engine.verify()).findings == ()


WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.encryption.test_encrypted_database import CANARY, KEY, encrypted_config
from mnesis import MnesisSession
async def main():
    directory = Path(sys.argv[1])
    async with MnesisSession.open(
        model=None, session_id="s", db_path=directory / "s.db", config=encrypted_config(directory)
    ) as session:
        for number in range(20):
            await session.record(f"{CANARY} {number}", "answer")
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_killed_process_leaves_an_encrypted_log_that_only_its_key_reads(tmp_path: Path) -> None:
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), cwd=Path(__file__).parents[2]
    )
    assert await writer.wait() == -signal.SIGKILL
    assert (tmp_path / "s.db-wal").stat().st_size > 0
    assert find_on_disk(tmp_path, CANARY) == []
    for wrong in (None, OTHER_KEY, PASSPHRASE):  # none of them may recover, checkpoint or delete the write-ahead log
        for read_only in (True, False):
            with pytest.raises(EncryptionKeyError):
                await SqliteStore(tmp_path / "s.db", encrypted(wrong, read_only=read_only)).open()
    store = SqliteStore(tmp_path / "s.db", encrypted())
    await store.open()
    assert len(await store.messages("s")) == 40
    assert await store.check() == []
    await store.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [(None, "is encrypted, and no key was given"), (OTHER_KEY, "the key is wrong"), (PASSPHRASE, "the key is wrong")],
)
async def test_a_missing_or_wrong_key_is_refused_and_changes_nothing(tmp_path: Path, given: object, words: str) -> None:
    await write(tmp_path)
    before = (tmp_path / "s.db").read_bytes()
    for read_only in (False, True):
        with pytest.raises(EncryptionKeyError, match=words) as raised:
            async with Engine(tmp_path / "s.db", config=MnesisConfig(store=encrypted(given, read_only=read_only))):
                pass
        assert raised.value.db_path == str(tmp_path / "s.db")
    assert (tmp_path / "s.db").read_bytes() == before


async def test_a_key_for_a_database_without_one_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db"):
        pass
    with pytest.raises(EncryptionKeyError, match="is not encrypted, but a key was given"):
        async with Engine(tmp_path / "s.db", config=MnesisConfig(store=encrypted())):
            pass


@pytest.mark.parametrize("key", [None, KEY])
async def test_what_is_no_database_is_not_taken_for_an_encrypted_one(tmp_path: Path, key: object) -> None:
    (tmp_path / "s.db").write_bytes(b"a text, and nothing else\n" * 400)
    with pytest.raises(CorruptStoreError):
        await SqliteStore(tmp_path / "s.db", encrypted(key)).open()


async def test_without_the_extra_the_error_has_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(tmp_path)
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    with pytest.raises(EncryptionKeyError, match=r'pip install "mnesis-context\[encryption\]"'):
        await SqliteStore(tmp_path / "s.db").open()
    with pytest.raises(ConfigurationError, match=r'pip install "mnesis-context\[encryption\]"'):
        await SqliteStore(tmp_path / "s.db", encrypted()).open()
    with pytest.raises(ConfigurationError, match=r"mnesis-context\[encryption\]"):
        await SqliteStore(tmp_path / "new.db", encrypted()).open()
    assert not (tmp_path / "new.db").exists()


async def test_a_database_is_open_with_one_key_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, config=encrypted_config(tmp_path)):
        for other in (StoreConfig(), encrypted(OTHER_KEY)):
            with pytest.raises(ConfigurationError, match="encryption_key"):
                Engine(path, config=MnesisConfig(store=other))
        # A read-only engine has a connection of its own, and a store needs no engine.
        for other in (StoreConfig(read_only=True), encrypted(OTHER_KEY, read_only=True)):
            with pytest.raises((ConfigurationError, EncryptionKeyError)):
                async with Engine(path, config=MnesisConfig(store=other)):
                    pass
        with pytest.raises(ConfigurationError, match="without one"):
            await SqliteStore(path).open()
        async with Engine(path, config=encrypted_config(tmp_path, read_only=True)) as reader:
            assert (await reader.sessions()).sessions == ()


async def test_a_plain_database_that_is_open_is_not_opened_with_a_key(tmp_path: Path) -> None:
    """Two copies of SQLite would drop each other's locks (sqlite.org/howtocorrupt.html, 2.2.1)."""
    async with Engine(tmp_path / "s.db"):
        with pytest.raises(ConfigurationError, match="without an encryption key"):
            await SqliteStore(tmp_path / "s.db", encrypted()).open()


async def test_any_changed_byte_of_an_encrypted_database_is_noticed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", encrypted())
    await store.open()
    await store.close()
    content = bytearray((tmp_path / "s.db").read_bytes())
    for position in range(20, len(content), 4096):
        damaged = bytearray(content)
        damaged[position] ^= 1
        (tmp_path / "s.db").write_bytes(damaged)
        store = SqliteStore(tmp_path / "s.db", encrypted())
        try:
            await store.open()
            findings = await store.check()
        except MnesisStoreError:
            continue
        finally:
            await store.close()
        assert findings, position


def test_errors_of_the_library_are_those_of_the_standard_library(tmp_path: Path) -> None:
    from mnesis.encryption import EncryptionKey
    from mnesis.store.sqlite.keyed_file import connect_file

    connection = connect_file(tmp_path / "new.db", "mode=rwc", EncryptionKey(KEY), isolation_level=None)
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL UNIQUE)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, "y"), (4, "w")])
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE") as raised:
        connection.execute("INSERT INTO t VALUES (3, 'x')")
    assert raised.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CONSTRAINT
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM missing")
    with pytest.raises(sqlite3.IntegrityError):
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, "z")])
    cursor = connection.execute("SELECT a FROM t ORDER BY a")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(5) == [(2,), (4,)]
    assert cursor.fetchall() == []
    assert list(connection.execute("SELECT b FROM t ORDER BY a")) == [("x",), ("y",), ("w",)]
    failing = "SELECT CASE WHEN a = 4 THEN json('{') ELSE b END FROM t ORDER BY a"
    with pytest.raises(sqlite3.OperationalError, match="malformed JSON"):
        connection.execute(failing).fetchall()
    rows = iter(connection.execute(failing))
    assert next(rows) == ("x",)  # rows before an error arrive, except the last: the library looks one row ahead
    with pytest.raises(sqlite3.OperationalError):
        next(rows)
    connection.close()
    with pytest.raises(sqlite3.OperationalError):
        connect_file(tmp_path / "missing" / "x.db", "mode=rw", EncryptionKey(KEY)).execute("SELECT 1")


def test_a_server_is_not_encrypted_by_this_key() -> None:
    with pytest.raises(ConfigurationError, match="encrypted by its server"):
        PostgresStore("postgresql://user@localhost/name", encrypted())


def test_an_opened_database_prints_nothing_to_stderr(tmp_path: Path) -> None:
    """SQLCipher would print each failed decryption."""
    code = (
        "import asyncio\nfrom mnesis.store.sqlite import SqliteStore\nfrom mnesis.config import StoreConfig\n"
        "async def main():\n"
        "    for key in ('a first passphrase', 'a second passphrase'):\n"
        "        store = SqliteStore('s.db', StoreConfig(encryption_key=key))\n"
        "        try:\n            await store.open()\n        except Exception as error:\n            print(type(error).__name__)\n"
        "        await store.close()\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env, check=True
    )
    assert (run.stdout.split(), run.stderr) == (["EncryptionKeyError"], "")
