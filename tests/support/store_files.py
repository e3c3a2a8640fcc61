"""Stores that are filled, and programs that open them."""

from __future__ import annotations

from pathlib import Path

from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import store_conversation


async def filled(path: Path, turns: int = 3) -> None:
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, turns)
    await store.close()


async def opens(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await store.open()
        await store.messages("s")
    finally:
        await store.close()
