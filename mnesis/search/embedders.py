"""The embedding functions that `RecallConfig.vectors` accepts, behind one interface."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anyio import to_thread

from mnesis.errors import ConfigurationError
from mnesis.search.vectors import WRONG_VECTORS
from mnesis.search.wordllama_vectors import MODEL_NAME, WORDLLAMA, embed_texts, package_directory

Vectors = Sequence[Sequence[float]]
EmbedTexts = Callable[[list[str]], "Vectors | Awaitable[Vectors]"]
MAX_BATCH_TEXTS = 256
"""The number of texts in one call of an embedding function. Providers allow about 2,000 texts or 300,000 tokens."""
INSTALL = "pip install 'mnesis-context[vectors]'"


class LangChainEmbeddings(Protocol):
    """LangChain's `Embeddings` (langchain_core/embeddings/embeddings.py)."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...
    def embed_query(self, text: str) -> list[float]: ...


class LlamaIndexEmbedding(Protocol):
    """LlamaIndex's `BaseEmbedding` (llama_index/core/base/embeddings/base.py)."""

    def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]: ...
    def get_query_embedding(self, query: str) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class Embedder:
    """An embedding model: its name, under which vectors are stored, and how texts and queries are embedded."""

    name: str
    embed_texts: EmbedTexts
    embed_queries: EmbedTexts

    async def texts(self, texts: list[str]) -> list[Sequence[float]]:
        """Return one vector per text. Functions that are not coroutine functions run in a thread."""
        vectors: list[Sequence[float]] = []
        for start in range(0, len(texts), MAX_BATCH_TEXTS):
            vectors += await _call(self.embed_texts, texts[start : start + MAX_BATCH_TEXTS])
        return vectors

    async def query(self, query: str) -> tuple[float, ...]:
        """Return the vector of a query."""
        (vector,) = await _call(self.embed_queries, [query])
        try:
            values = tuple(map(float, vector))
        except (TypeError, ValueError):
            values = ()
        if not values or not all(map(math.isfinite, values)):
            raise ConfigurationError(WRONG_VECTORS)
        return values


async def _call(embed: EmbedTexts, texts: list[str]) -> Vectors:
    if inspect.iscoroutinefunction(embed) or inspect.iscoroutinefunction(getattr(embed, "__call__", None)):  # noqa: B004
        result: Any = embed(texts)
    else:
        result = await to_thread.run_sync(embed, texts)
    vectors: Vectors = await result if inspect.isawaitable(result) else result
    if len(vectors) != len(texts):
        raise ConfigurationError(
            f"the embedding function returned {len(vectors)} vectors for {len(texts)} texts; it must return one for each"
        )
    return vectors


def resolve_embedder(value: object, name: str | None = None) -> Embedder | None:
    """Return the embedder for a valid value of `RecallConfig.vectors`, or None for None.

    Raises `ImportError` if numpy or wordllama is missing.
    """
    if value is None:
        return None
    if value == WORDLLAMA:
        embedder = Embedder(name or MODEL_NAME, embed_texts, embed_texts)
        is_installed = package_directory() is not None
    else:
        embedder = _adapt(value, name)
        is_installed = True
    if not is_installed or importlib.util.find_spec("numpy") is None:
        raise ImportError(f"vectors need packages that are not installed; install them: {INSTALL}")
    return embedder


def _adapt(value: Any, name: str | None) -> Embedder:
    """Adapt an object of LangChain or LlamaIndex, or a function.

    The synchronous methods are used, in a thread: by default LlamaIndex's coroutines call them in the event loop.
    """
    if hasattr(value, "embed_documents") and hasattr(value, "embed_query"):
        documents: LangChainEmbeddings = value
        return Embedder(
            name or _name(value),
            documents.embed_documents,
            lambda texts: [documents.embed_query(text) for text in texts],
        )
    if hasattr(value, "get_text_embedding_batch") and hasattr(value, "get_query_embedding"):
        model: LlamaIndexEmbedding = value
        return Embedder(
            name or _name(value),
            model.get_text_embedding_batch,
            lambda texts: [model.get_query_embedding(text) for text in texts],
        )
    return Embedder(name or _name(value), value, value)


def _name(value: Any) -> str:
    """Return a name for a model: those of its class and of the model inside, or that of the function."""
    if not inspect.isroutine(value):
        kind = type(value)
        models = (getattr(value, attribute, None) for attribute in ("model_name", "model", "model_id"))
        model = next((each for each in models if isinstance(each, str)), "")
        return f"{kind.__module__}.{kind.__qualname__} {model}".strip()
    return f"{value.__module__}.{value.__qualname__}"
