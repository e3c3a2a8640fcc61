"""A store that also searches by meaning: it computes missing vectors, and the vector of each query, with an embedding
function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from anyio import to_thread

from mnesis.errors import MnesisError, ReadOnlyStoreError
from mnesis.models.search import QueryVector, Search, SearchPage, UnembeddedMessage
from mnesis.redaction import get_logger
from mnesis.search.embedders import Embedder, resolve_embedder
from mnesis.store.base import OnIndexed, Store
from mnesis.store.sqlite.search_scope import seq_of

logger = get_logger(__name__)

T = TypeVar("T")

BATCH_MESSAGES = 256
"""The number of messages whose vectors are computed and stored together. Between these groups, other writers can
write."""


def embedding_store(store: Store, embedding: object, name: str | None) -> Store:
    """Return a store that searches with vectors of `RecallConfig.vectors`, or `store` itself if that is None."""
    embedder = resolve_embedder(embedding, name)
    return store if embedder is None else cast(Store, _EmbeddingStore(store, embedder))


class _EmbeddingStore:
    """`search` with vectors. All other verbs are those of the inner store."""

    def __init__(self, inner: Store, embedder: Embedder) -> None:
        self._inner = inner
        self._embedder = embedder
        self._complete_seqs: dict[str, int] = {}
        """The seq up to which each session is known to have vectors, so that only newer messages are examined."""
        self._is_read_only = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def search(self, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
        """See `Store.search`. If the embedding function fails, only words are searched, and a warning is logged."""
        if search.vector is not None or search.mode != "words" or not search.query.strip():
            return await self._inner.search(search, on_progress)
        values = await self._attempt(self._embedder.query(search.query))
        if values is None:
            return await self._inner.search(search, on_progress)
        if search.session_id is not None:
            await self._attempt(self._fill(search.session_id, on_progress))
        search = replace(search, vector=QueryVector(self._embedder.name, values))
        page = await self._inner.search(search, on_progress)
        if page.missing_vectors and search.cursor is None:
            # Vectors were damaged or erased in the meantime, or all sessions are searched.
            self._complete_seqs.pop(search.session_id or "", None)
            if await self._attempt(self._fill(search.session_id, on_progress)):
                return await self._inner.search(search, on_progress)
        return page

    async def _attempt(self, work: Awaitable[T]) -> T | None:
        """Return the result of `work`, or None after a warning if the embedding function fails."""
        try:
            return await work
        except MnesisError:
            raise
        except Exception as error:  # any exception of the model or its provider
            logger.warning("the embedding function failed, so messages are searched by words only: %r", error)
            return None

    async def _fill(self, session_id: str | None, on_progress: OnIndexed | None) -> bool:
        """Compute and store the missing vectors of a session, or of all, in batches. Returns whether any was stored."""
        after_seq = self._complete_seqs.get(session_id or "", 0)
        filled = 0
        while not self._is_read_only and (
            messages := await self._inner.messages_without_vectors(
                session_id, self._embedder.name, after_seq=after_seq, limit=BATCH_MESSAGES
            )
        ):
            vectors = await self._embed(messages)
            try:
                await self._inner.save_vectors(self._embedder.name, vectors)
            except ReadOnlyStoreError:
                self._is_read_only = True
                logger.warning("%s cannot be written; only stored vectors are searched", self._inner.location)
                break
            filled += len(messages)
            if on_progress is not None:
                on_progress(filled, filled)
            if session_id is not None:
                after_seq = self._complete_seqs[session_id] = seq_of(messages[-1].key)
        return bool(filled)

    async def _embed(self, messages: Sequence[UnembeddedMessage]) -> dict[int, bytes]:
        from mnesis.search.vectors import encode_vectors, passages

        pieces = [passages(message.text) for message in messages]
        vectors = await self._embedder.texts([piece for each in pieces for piece in each])

        def encode() -> dict[int, bytes]:
            start, encoded = 0, {}
            for message, each in zip(messages, pieces, strict=True):
                encoded[message.key] = encode_vectors(vectors[start : start + len(each)])
                start += len(each)
            return encoded

        return await to_thread.run_sync(encode)
