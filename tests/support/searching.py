"""Sessions to search."""

from __future__ import annotations

from mnesis.models.message import text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store

TOPICS = ["the harbour was closed by ice", "my sister bakes bread", "the parser drops commas", "we walked to 東京都庁"]


async def fill(store: Store, session_id: str, texts: list[str]) -> None:
    await store.create_session(SessionRecord(id=session_id, model="m"))
    messages = [
        text_message("user" if n % 2 == 0 else "assistant", text, id=f"{session_id}-{n + 1}", created_at=n * 1_000)
        for n, text in enumerate(texts)
    ]
    await store.append(session_id, Append(messages))


def talk(count: int) -> list[str]:
    """Small talk, with a topic at every 25th message."""
    texts = [f"number {n} of the small talk, nothing of interest" for n in range(count)]
    for place, topic in enumerate(TOPICS):
        texts[10 + 25 * place] = topic
    return texts


async def ids(store: Store, search: Search) -> list[str]:
    return [hit.message_id for hit in await store.search(search)]
