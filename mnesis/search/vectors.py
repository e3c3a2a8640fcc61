"""Vectors of messages: passages, stored form, similarity, and fusion with the ranking by words. No I/O.

A message has one vector per passage, because the vector of a long text resembles every question a little and none much.
numpy is imported at the first use of vectors; the extra `vectors` installs it.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mnesis.errors import ConfigurationError

PASSAGE_CHARS = 400
"""The length of the longest passage. With 800, fewer answers were found in logs with long messages; with 250, no more.
Chosen on the questions for fitting."""
MAX_PASSAGES = 64
"""The largest number of passages of one message. From a longer message, this number is taken at equal distances."""
VECTOR_WEIGHT = 0.6
"""The score of the nearest message if no word of the query matches, as a fraction of the best score by words."""
COVERAGE_EXPONENT = 2
"""The weight is multiplied by (1 - coverage) to this power. Chosen, like the weight, on the questions for fitting."""
MAX_VECTOR_HITS = 100
"""The number of messages without a word of the query that vectors may add to a ranking."""
_SENTENCE_END = re.compile(r"(?<=[.!?\n。！？])\s*")
WRONG_VECTORS = (
    "the embedding function must return one list of finite numbers for each text, all of the same length; check"
    " RecallConfig.vectors"
)
_EMPTY = "(empty)"
"""The text that is embedded for a message without text, because providers refuse empty texts."""
_HEADER_BYTES = 2
_CHUNK_ROWS = 8_192


def passages(text: str) -> list[str]:
    """Split a text into passages of whole sentences, each at most `PASSAGE_CHARS` long. Returns at least one."""
    if len(text) > PASSAGE_CHARS * MAX_PASSAGES:
        step = len(text) // MAX_PASSAGES
        return [text[start : start + PASSAGE_CHARS] for start in range(0, step * MAX_PASSAGES, step)]
    found: list[str] = []
    for piece in _pieces(text):
        if found and len(found[-1]) + 1 + len(piece) <= PASSAGE_CHARS:
            found[-1] = f"{found[-1]} {piece}"
        else:
            found.append(piece)
    return found[:MAX_PASSAGES] or [_EMPTY]


def _pieces(text: str) -> Iterator[str]:
    """Yield the sentences of a text; a longer one in pieces."""
    for sentence in _SENTENCE_END.split(text):
        for start in range(0, len(sentence), PASSAGE_CHARS):
            if piece := sentence[start : start + PASSAGE_CHARS].strip():
                yield piece


def encode_vectors(vectors: Sequence[Sequence[float]]) -> bytes:
    """Convert the vectors of a message to the stored form: the number of dimensions, then one signed byte per value.

    Only directions are kept, to about one part in a hundred. Raises `ConfigurationError` for anything but numbers of one length.
    """
    import numpy as np

    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        matrix = np.empty(0, dtype=np.float32)
    if matrix.ndim != 2 or not 0 < matrix.shape[1] < 1 << 8 * _HEADER_BYTES or not np.isfinite(matrix).all():
        raise ConfigurationError(WRONG_VECTORS)
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    scaled = matrix / np.where(largest > 0, largest, 1) * 127
    return int(matrix.shape[1]).to_bytes(_HEADER_BYTES, "big") + scaled.round().astype(np.int8).tobytes()


def is_readable(stored: bytes, dimensions: int) -> bool:
    """Return whether stored vectors have this number of dimensions."""
    body_bytes = len(stored) - _HEADER_BYTES
    return (
        body_bytes > 0 and body_bytes % dimensions == 0 and int.from_bytes(stored[:_HEADER_BYTES], "big") == dimensions
    )


def nearness(query: Sequence[float], stored: Sequence[tuple[int, bytes]]) -> dict[int, float]:
    """Return the nearness of each message to a query: 1 for the nearest, 0 for the median and everything beyond.

    `stored` has keys and readable vectors. The nearest passage of a message counts. The mean of all vectors is
    subtracted first, because a component that all messages share does not distinguish them.
    """
    import numpy as np

    if not stored:
        return {}
    dimensions = len(query)
    data = np.frombuffer(b"".join(vectors[_HEADER_BYTES:] for _, vectors in stored), dtype=np.int8)
    data = data.reshape(-1, dimensions)
    chunks = range(0, len(data), _CHUNK_ROWS)
    mean = sum(_unit(np, data[start : start + _CHUNK_ROWS]).sum(axis=0) for start in chunks) / len(data)
    if len(stored) < 3:
        mean = mean * 0  # nothing to compare with
    target = _unit(np, _unit(np, np.asarray([query])) - mean)[0]
    similarity = np.concatenate(
        [_unit(np, _unit(np, data[start : start + _CHUNK_ROWS]) - mean) @ target for start in chunks]
    )
    counts = np.array([(len(vectors) - _HEADER_BYTES) // dimensions for _, vectors in stored])
    best = np.maximum.reduceat(similarity, np.cumsum(counts) - counts)
    middle = float(np.median(best)) if len(best) > 2 else 0.0
    spread = float(best.max()) - middle
    near = np.clip((best - middle) / spread, 0, 1) if spread > 0 else best * 0
    return {key: value for (key, _), value in zip(stored, near.tolist(), strict=True) if value > 0}


def _unit(np: Any, matrix: Any) -> Any:
    """Return the rows of a matrix scaled to length 1; rows of zeros do not change."""
    matrix = matrix.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
    return matrix / np.where(lengths > 0, lengths, 1)


def vector_weight(coverage: float) -> float:
    """Return the weight of vectors for a query if the words of the best message have the fraction `coverage` of its
    weight.
    """
    return float(VECTOR_WEIGHT * math.pow(1 - min(max(coverage, 0.0), 1.0), COVERAGE_EXPONENT))


def fuse(
    hits: list[tuple[int, float]], near: Mapping[int, float], coverage: float, is_allowed: Callable[[int], bool]
) -> list[tuple[int, float]]:
    """Add nearness to the scores of a ranking by words, and the nearest of the other messages that are allowed.

    The order of hits with equal scores is kept.
    """
    weight = vector_weight(coverage) * (hits[0][1] if hits else 1.0)
    if weight <= 0:
        return hits
    known = {key for key, _ in hits}
    others = ((value, -key) for key, value in near.items() if key not in known and is_allowed(key))
    nearest = [(-key, weight * value) for value, key in heapq.nlargest(MAX_VECTOR_HITS, others)]
    scored = [(key, score + weight * near.get(key, 0.0)) for key, score in hits]
    return sorted([*scored, *nearest], key=lambda hit: -hit[1])
