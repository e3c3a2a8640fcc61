"""Stored files as lines of an export: pieces of their bytes in base64, one after another."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.output import clean, note

if TYPE_CHECKING:
    from mnesis.files.storage import FileStorage

PIECE_BYTES = 3 << 18
"""Of a file in one line, which base64 makes a megabyte."""


def file_lines(storage: FileStorage, content_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines of these files. One that is not stored, or damaged, is said to be left out."""
    from mnesis.errors import DamagedFileError, FileNotStoredError

    for content_id in content_ids:
        try:
            stored = storage.verified(content_id)
        except (FileNotStoredError, DamagedFileError) as error:
            note(f"left out: {error}")
            continue
        with stored.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield {"kind": "file", "id": content_id, "data": base64.b64encode(piece).decode("ascii")}


def keep(storage: FileStorage, content_id: str, lines: Iterable[dict[str, Any]]) -> None:
    """Store one file from its lines. Raises `click.UsageError` if they are not its bytes, `FileError`."""
    try:
        stored = storage.add_pieces((base64.b64decode(line["data"], validate=True) for line in lines), content_id)
    except (KeyError, TypeError, binascii.Error) as error:
        raise click.UsageError(f"the bytes of file {clean(content_id)} cannot be decoded: {error}") from error
    if stored.content_id != content_id:
        raise click.UsageError(f"the bytes of file {clean(content_id)} are not those it was exported with")
