"""I/O errors, unsuitable file systems, and SQLite releases: recognized once, in the same words everywhere."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path

import pytest

from mnesis.cli.doctor_environment import file_findings
from mnesis.errors import ConfigurationError, CorruptStoreError, MnesisStoreError, StoreFullError, StoreIOError
from mnesis.store.sqlite import SqliteStore, environment, translate_errors
from mnesis.store.sqlite.translate_errors import translate_error

# proc(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, super options
MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:45 / /mnt/share rw,relatime - nfs4 server:/export rw,vers=4.2
31 22 0:46 / /mnt/with\040space rw - fuse.sshfs me@host:/ rw
32 22 0:47 / /mnt/shared rw master:3 propagate_from:2 - btrfs /dev/sdb rw
33 30 0:48 / /mnt/share/local rw - xfs /dev/sdc rw
34 22 0:49 / /mnt/over rw - nfs server:/a rw
35 34 0:50 / /mnt/over rw - tmpfs tmpfs rw
a malformed line
"""


def failed(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_FSTAT,
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    ],
)
def test_an_io_error_is_reported_as_an_io_error(code: int, tmp_path: Path) -> None:
    error = translate_error(failed(code), tmp_path / "x.db")
    assert isinstance(error, StoreIOError)
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    assert "I/O error (EIO)" in str(error)
    assert "restore" not in str(error)


def test_a_quota_is_reported_as_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reports EDQUOT and EFBIG as SQLITE_IOERR_WRITE, and only ENOSPC as SQLITE_FULL (os_unix.c, unixWrite)."""

    def over_quota(file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(translate_errors.os, "fsync", over_quota)
    assert isinstance(translate_error(failed(sqlite3.SQLITE_IOERR_WRITE), tmp_path / "x.db"), StoreFullError)


def test_other_errors_keep_their_types(tmp_path: Path) -> None:
    assert isinstance(translate_error(failed(sqlite3.SQLITE_FULL), tmp_path / "x.db"), StoreFullError)
    assert isinstance(translate_error(failed(sqlite3.SQLITE_CORRUPT), tmp_path / "x.db"), CorruptStoreError)
    assert isinstance(translate_error(failed(sqlite3.SQLITE_IOERR_SHORT_READ), tmp_path / "x.db"), CorruptStoreError)
    assert type(translate_error(failed(sqlite3.SQLITE_ERROR), tmp_path / "x.db")) is MnesisStoreError


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/home/me/x.db", "ext4"),
        ("/mnt/share/x.db", "nfs4"),
        ("/mnt/with space/deep/x.db", "fuse.sshfs"),
        ("/mnt/shared/x.db", "btrfs"),
        ("/mnt/share/local/x.db", "xfs"),
        ("/mnt/over/x.db", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_mount(path: str, file_system: str) -> None:
    assert environment.find_file_system(Path(path), MOUNTS) == file_system


def test_the_file_system_of_this_machine_is_found_and_local(tmp_path: Path) -> None:
    found = environment.find_file_system(tmp_path)
    assert found is None or environment.file_system_finding(tmp_path, found).severity == "ok"
    assert environment.find_file_system(tmp_path, "") is None


async def test_unsuitable_surroundings_are_logged_once_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(environment, "find_file_system", lambda path: "nfs4")
    monkeypatch.setattr("mnesis.cli.doctor_environment.find_file_system", lambda path: "nfs4")
    monkeypatch.setattr(environment.sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(environment, "_reported", set())
    caplog.set_level(logging.INFO, "mnesis")
    path = tmp_path / "x.db"
    for _ in range(3):
        store = SqliteStore(path)
        await store.open()
        await store.close()
    advice = [environment.sqlite_finding((3, 40, 1)), environment.file_system_finding(path, "nfs4")]
    assert [finding.severity for finding in advice] == ["warning", "warning"]
    expected = [f"{finding.detail}; {finding.fix}" for finding in advice]
    assert [record.getMessage() for record in caplog.records] == expected
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert advice[1] in list(file_findings(path))


async def test_the_mounts_are_read_once_per_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def note(path: Path) -> str:
        looked_up.append(path.name)
        return "ext4"

    monkeypatch.setattr(environment, "find_file_system", note)
    for name in ("one.db", "one.db", "two.db"):
        store = SqliteStore(tmp_path / name)
        await store.open()
        await store.close()
    assert looked_up == ["one.db", "two.db"]


async def test_a_sqlite_without_strict_tables_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(ConfigurationError, match="too old"):
        await SqliteStore(tmp_path / "x.db").open()
    assert not (tmp_path / "x.db").exists()
