"""Copying stored files from one storage to another, each with its own encryption. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mnesis.errors import DamagedFileError, FileNotStoredError
from mnesis.files.source_file import CHUNK_BYTES
from mnesis.files.storage import FileStorage

OnFile = Callable[[int, int], None]
"""Called with the number of finished files and the total."""


@dataclass
class CopiedFiles:
    """The number of copied files, the number that the target had, and the ids of those missing or damaged in the
    source.
    """

    copied: int = 0
    present: int = 0
    unreadable_ids: list[str] = field(default_factory=list)


def copy_files(
    source: FileStorage,
    target: FileStorage,
    content_ids: Sequence[str],
    on_file: OnFile | None = None,
    *,
    skip_present: bool = False,
) -> CopiedFiles:
    """Copy stored files. With `skip_present`, files that the target has already are not copied again.

    Copies that object stores make on this machine during the copying are deleted again. Raises `FileError` if the
    target cannot be written.
    """
    report = CopiedFiles()
    for number, content_id in enumerate(content_ids, 1):
        try:
            if skip_present and target.has(content_id):
                report.present += 1
            else:
                _copy_file(source, target, content_id)
                report.copied += 1
        except (FileNotStoredError, DamagedFileError):
            report.unreadable_ids.append(content_id)
        if on_file is not None:
            on_file(number, len(content_ids))
    return report


def _copy_file(source: FileStorage, target: FileStorage, content_id: str) -> None:
    without_copy = [storage for storage in (source, target) if not storage.path_of(content_id).exists()]
    try:
        with source.find_verified(content_id).open() as file:
            target.add_chunks(iter(lambda: file.read(CHUNK_BYTES), b""), content_id)
    finally:
        for storage in without_copy:
            storage.discard_copy(content_id)
