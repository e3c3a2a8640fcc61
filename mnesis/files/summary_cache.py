"""What is known of a stored file: explored once per content, kind of name, explorer version and model, then kept beside it."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path, PurePath

from mnesis.files.explorers import VERSION, Exploration, explore
from mnesis.files.storage import FileStorage, StoredFile

logger = logging.getLogger(__name__)

MAX_CHARS = 4_000
"""Of a summary; about a thousand tokens."""


def explored(storage: FileStorage, stored: StoredFile, name: str) -> Exploration:
    """The structural summary of a stored file. Blocking. Raises OSError if the file cannot be read."""
    kept = load(storage, stored, name)
    if kept is None:
        kept = explore(stored.path, name, max_chars=MAX_CHARS, sha256=stored.content_id)
        save(storage, stored, name, kept)
    return kept


def load(storage: FileStorage, stored: StoredFile, name: str, model: str = "") -> Exploration | None:
    """What was kept under these names; None if there is nothing, or it is damaged."""
    try:
        entry = json.loads(_place(storage, stored, name, model).read_bytes())
        found = Exploration(str(entry["file_type"]), str(entry["text"]), bool(entry["is_prose"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if entry.get("check") == _check(found) else None


def save(storage: FileStorage, stored: StoredFile, name: str, found: Exploration, model: str = "") -> None:
    """Keep what was found. Where it cannot be written it is found again next time."""
    entry = {"file_type": found.file_type, "text": found.text, "is_prose": found.is_prose, "check": _check(found)}
    place = _place(storage, stored, name, model)
    try:
        storage.write_private(place, json.dumps(entry).encode())
    except OSError as error:
        logger.info("what is known of stored file %s cannot be kept: %s", stored.content_id, error)


def _place(storage: FileStorage, stored: StoredFile, name: str, model: str) -> Path:
    # Explorers look at the content and at the suffix of the name; the content is the directory's part of the key.
    key = "\0".join((PurePath(name.strip().lower()).suffix, VERSION, str(MAX_CHARS), model))
    mark = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return storage.path_of(stored.content_id).with_name(f"{stored.content_id}.{mark}.json")


def _check(found: Exploration) -> str:
    return hashlib.sha256(repr(found).encode("utf-8", "surrogatepass")).hexdigest()[:16]
