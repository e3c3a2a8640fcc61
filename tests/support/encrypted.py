"""Encrypted databases for tests: their settings, and the search for bytes on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnesis.config import CompactionConfig, FileConfig, MnesisConfig, ModelOverrides, StoreConfig

KEY = bytes(range(1, 33))
OTHER_KEY = bytes(range(101, 133))
PASSPHRASE = "it's a long, secret passphrase — 東京"


def encrypted(key: Any = KEY, **settings: Any) -> StoreConfig:
    return StoreConfig(encryption_key=key, **settings)


def encrypted_config(directory: Path, key: Any = KEY, **store_settings: Any) -> MnesisConfig:
    """A small window, small files, and everything encrypted."""
    return MnesisConfig(
        store=encrypted(key, **store_settings),
        file=FileConfig(storage_dir=directory / "files", inline_threshold=100),
        model_overrides=ModelOverrides(context_limit=8_192, max_output_tokens=512),
        compaction=CompactionConfig(compaction_output_budget=1_000),
    )


def find_on_disk(directory: Path, *needles: str) -> list[str]:
    """Return the files below a directory whose bytes or name contain any of the texts, in UTF-8 or UTF-16."""
    found = []
    for path in directory.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for needle in needles:
            encodings = (needle.encode(), needle.encode("utf-16-le"), needle.encode().hex().encode())
            if any(each in content for each in encodings) or needle in path.name:
                found.append(f"{needle} in {path.relative_to(directory)}")
    return found


def files_below(directory: Path) -> set[Path]:
    """Return every file below a directory."""
    return {path for path in directory.rglob("*") if path.is_file()}
