"""`mnesis backup`: a consistent copy of the database while it is in use."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option, open_store
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.key_files import read_key_file
from mnesis.cli.output import pluralize, print_json, print_note
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.display.progress_bar import progress
from mnesis.errors import StoreFullError

if TYPE_CHECKING:
    from mnesis.config import EncryptionSetting
    from mnesis.encryption import EncryptionKey


@click.command(
    "backup",
    short_help="Copy the database while it is in use.",
    epilog="Example: mnesis backup ~/backups/sessions-2026-03-01.db",
)
@click.argument("file", metavar="FILE", type=click.Path())
@click.option(
    "--new-key-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Encrypt the copy with the key in this file.",
)
@click.option("--plain", is_flag=True, help="Do not encrypt the copy of an encrypted database.")
@click.option("--files-to", type=click.Path(path_type=Path), metavar="DIR", help="Also copy the stored files to DIR.")
@storage_option
@json_option
@db_option
def command(
    file: str,
    new_key_file: Path | None,
    plain: bool,
    files_to: Path | None,
    storage: str | None,
    as_json: bool,
    db: DatabaseOption,
) -> None:
    """Write a consistent copy of the database to FILE, which must not exist. Other processes can keep reading and writing.

    Copying the file by other means while it is in use can produce a damaged copy. The copy has the key of the database,
    if there is one. --new-key-file encrypts it, also with another key; --plain decrypts it. Stored large files are only
    included with --files-to, where they are encrypted like the copy.
    """
    if new_key_file is not None and plain:
        raise click.UsageError("--new-key-file and --plain exclude each other; pass one of them")
    source, target = existing_database_path(db), Path(file).expanduser()
    if not _is_utf8(str(target.absolute())):
        raise click.UsageError(
            f"{target} is not UTF-8, which SQLite requires for the name of a copy; choose another name"
        )
    if os.path.lexists(target):
        raise click.UsageError(f"{target} already exists and is never overwritten; choose another name")
    if not target.parent.is_dir():
        raise click.UsageError(f"the directory {target.parent} does not exist; create it first")
    if isinstance(source, Path):
        _check_free_space(source, target)
    own_key = db.config().store.encryption_key
    new_key = None if plain else own_key if new_key_file is None else read_key_file(new_key_file)
    is_converted = plain or new_key_file is not None
    asyncio.run(_convert(db, target, new_key) if is_converted else _copy(db, target))
    count = _copy_files(db, storage, target, new_key, files_to) if files_to is not None else None
    size = os.stat(target).st_size
    if as_json:
        files = {} if count is None else {"files": count, "files_to": str(files_to)}
        print_json(
            {"database": str(source), "file": str(target), "bytes": size, "encrypted": new_key is not None, **files}
        )
    else:
        print_note(f"{size / 1e6:,.1f} MB written to {target}{', encrypted' if new_key is not None else ''}")
        if count is not None:
            print_note(f"{pluralize(count, 'stored file')} copied to {files_to}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_free_space(source: Path, target: Path) -> None:
    wal = Path(f"{source}-wal")
    needed_bytes = os.stat(source).st_size + (os.stat(wal).st_size if wal.exists() else 0)
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes:
        raise StoreFullError(
            f"a copy may take {needed_bytes / 1e6:,.1f} MB, but {target.parent} has {free_bytes / 1e6:,.1f} MB free; nothing"
            " was written, choose another directory",
            db_path=target,
        )


async def _copy(db: DatabaseOption, target: Path) -> None:
    async with open_store(db) as store:
        with progress("copying bytes") as bar:
            await store.backup(target, follow_progress(bar))


async def _convert(db: DatabaseOption, target: Path, new_key: EncryptionSetting) -> None:
    from mnesis.store.sqlite import SqliteStore

    source = existing_database_path(db)
    if not isinstance(source, Path):
        raise click.UsageError("a database server has its own tools for copies; use them, or mnesis migrate --to PATH")
    config = db.config(read_only=True).store
    store = SqliteStore(source, config)
    await store.open()
    try:
        await store.convert(target, _key_of(new_key))
    finally:
        await store.close()


def _copy_files(
    db: DatabaseOption, storage: str | None, target: Path, new_key: EncryptionSetting, directory: Path
) -> int:
    """Copy the stored files that the copy of the database refers to, and note the reference in their directory. Returns
    their number.
    """
    from mnesis.files.copy_files import copy_files
    from mnesis.files.storage import FileStorage

    new = FileStorage(directory, read_key=lambda: _key_of(new_key))
    ids = asyncio.run(_content_ids(target, new_key))
    with progress("stored files", len(ids)) as bar:
        count = copy_files(file_storage(storage, db), new, ids, lambda done, total: bar.advance()).copied
    if ids:
        new.note_database(str(target.absolute()))
    return count


def _key_of(setting: EncryptionSetting) -> EncryptionKey | None:
    from mnesis.config import StoreConfig

    return StoreConfig(encryption_key=setting).read_encryption_key()


async def _content_ids(path: Path, key: EncryptionSetting) -> list[str]:
    from mnesis.config import StoreConfig
    from mnesis.store.sqlite import SqliteStore

    store = SqliteStore(path, StoreConfig(read_only=True, encryption_key=key))
    await store.open()
    try:
        return list(dict.fromkeys(each.content_id for each in await store.file_references()))
    finally:
        await store.close()
