"""Cached explorations: created once per content, name suffix, explorer version and model, and kept next to the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath

from mnesis.files.cipher import InvalidContentError
from mnesis.files.explorers import VERSION, Exploration, explore
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.redaction import get_logger

logger = get_logger(__name__)

MAX_EXPLORATION_CHARS = 4_000
"""The size of a cached exploration: about a thousand tokens."""


def explore_cached(storage: FileStorage, stored: StoredFile, name: str) -> Exploration:
    """Explore a stored file, or load the cached exploration. Blocking. Raises `OSError` if the file cannot be read."""
    exploration = load_exploration(storage, stored, name)
    if exploration is None:
        exploration = explore(stored, name, max_chars=MAX_EXPLORATION_CHARS, sha256=stored.content_id)
        save_exploration(storage, stored, name, exploration)
    return exploration


def load_exploration(storage: FileStorage, stored: StoredFile, name: str, model: str = "") -> Exploration | None:
    """Load a cached exploration, or return None if there is none or it is damaged."""
    try:
        entry = json.loads(storage.read_private(_entry_path(storage, stored, name, model)))
        exploration = Exploration(str(entry["file_type"]), str(entry["text"]), bool(entry["is_prose"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidContentError):
        return None
    return exploration if entry.get("check") == _checksum(exploration) else None


def save_exploration(
    storage: FileStorage, stored: StoredFile, name: str, exploration: Exploration, model: str = ""
) -> None:
    """Cache an exploration. If it cannot be written, it is created again next time."""
    entry = {
        "file_type": exploration.file_type,
        "text": exploration.text,
        "is_prose": exploration.is_prose,
        "check": _checksum(exploration),
    }
    path = _entry_path(storage, stored, name, model)
    try:
        storage.write_private(path, json.dumps(entry).encode())
    except OSError as error:
        logger.info("the exploration of stored file %s cannot be cached: %s", stored.content_id, error)


def _entry_path(storage: FileStorage, stored: StoredFile, name: str, model: str) -> Path:
    # Explorations depend on the content and the suffix of the name. The content id is part of the file name.
    key = "\0".join((PurePath(name.strip().lower()).suffix, VERSION, str(MAX_EXPLORATION_CHARS), model))
    key_hash = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    key_name = (storage.cipher.name(key_hash) if storage.cipher is not None else key_hash)[:16]
    path = storage.path_of(stored.content_id)
    return path.with_name(f"{path.name}.{key_name}.json")


def _checksum(exploration: Exploration) -> str:
    return hashlib.sha256(repr(exploration).encode("utf-8", "surrogatepass")).hexdigest()[:16]
