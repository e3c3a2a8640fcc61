"""Stored files as lines of an export: consecutive chunks of their bytes in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.output import clean_line, print_note

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage

CHUNK_BYTES = 3 << 18
"""The number of a file's bytes in one line: one megabyte in base64."""


def file_lines(storage: FileStorage, content_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines of these files. A file that is missing or damaged is skipped with a note."""
    from mnesis.errors import DamagedFileError, FileNotStoredError

    for content_id in content_ids:
        try:
            stored = storage.find_verified(content_id)
        except (FileNotStoredError, DamagedFileError) as error:
            print_note(f"left out: {error}")
            continue
        with stored.open() as file:
            while piece := file.read(CHUNK_BYTES):
                yield {"kind": "file", "id": content_id, "data": base64.b64encode(piece).decode("ascii")}


def store_file(storage: FileStorage, content_id: str, lines: Iterable[dict[str, Any]]) -> None:
    """Store one file from its lines. Raises `click.UsageError` if their bytes do not match its id."""
    try:
        stored = storage.add_chunks((base64.b64decode(line["data"], validate=True) for line in lines), content_id)
    except (KeyError, TypeError, binascii.Error) as error:
        raise click.UsageError(f"the bytes of file {clean_line(content_id)} cannot be decoded: {error}") from error
    if stored.content_id != content_id:
        raise click.UsageError(
            f"the bytes of file {clean_line(content_id)} do not match its id; the export was changed"
        )
