"""`mnesis rekey`: change the key of an encrypted database and of its stored files."""

from __future__ import annotations

from pathlib import Path

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option
from mnesis.cli.follow_progress import follow_progress
from mnesis.cli.key_files import read_key_file
from mnesis.cli.output import pluralize, print_json, print_note
from mnesis.cli.storage_option import file_storage, storage_option
from mnesis.display.progress_bar import progress


@click.command(
    "rekey",
    short_help="Change the key of an encrypted database.",
    epilog="Example: mnesis rekey --new-key-file new.key",
)
@click.option(
    "--new-key-file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="File with the new key: 64 hexadecimal digits, a passphrase, or 32 bytes.",
)
@storage_option
@json_option
@db_option
def command(new_key_file: Path, storage: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Encrypt the database and its stored files with a new key. No other process may have the database open at that
    time.

    The current key is that of MNESIS_ENCRYPTION_KEY or MNESIS_ENCRYPTION_KEY_FILE. If the command is interrupted, the
    database and all of its files have either the old or the new key. Repeat the command with that key. Backups keep the
    key they were made with.
    """
    from mnesis.config import StoreConfig, is_storage_url
    from mnesis.store.sqlite.rekey import rekey

    path = existing_database_path(db)
    if not isinstance(path, Path):
        raise click.UsageError(
            "the data of a database server is encrypted by the server; pass an SQLite file with --db"
        )
    new_key = StoreConfig(encryption_key=read_key_file(new_key_file)).read_encryption_key()
    if new_key is None:  # a key file always contains a key
        raise click.UsageError(f"the key file {new_key_file} has no key")
    if is_storage_url(storage or ""):
        raise click.UsageError(
            "the key of files in an object store cannot be changed in place; use `mnesis backup --new-key-file … --files-to`"
        )
    config, directory = db.config().store, file_storage(storage, db).directory
    with progress("stored files") as bar:
        count = rekey(path.absolute(), config, new_key, directory, follow_progress(bar))
    if as_json:
        print_json({"database": str(path), "files": count})
    else:
        print_note(f"{path} and {pluralize(count, 'stored file')} have the new key")
