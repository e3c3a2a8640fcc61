"""The part of a very long text that level 3 scores sentence by sentence.

Pure functions, no I/O. It takes one pass over the words, and memory that does not grow with the vocabulary.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

MAX_WHOLE_CHARS = 1_000_000
"""The total length of the passages up to which they are scored completely."""
SCORED_CHARS = 150_000
"""Of longer texts. Scoring a text takes about as long as counting the tokens of a text forty times as long."""
BLOCK_CHARS = 1_000
SPREAD_FRACTION = 0.25
"""The fraction of the selected characters for blocks at even distances, among them the first and the last. The rest are
the blocks with the rarest words."""
MAX_OCCURRENCES = 2
"""Blocks. A word in more blocks is not rare."""
_BUCKETS = 2**20


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a text. `follows_gap` says that text before it was left out."""

    text: str
    follows_gap: bool = False


def preselect(texts: Sequence[str]) -> list[list[Segment]]:
    """Return the segments of each text to score: all of it, unless the texts are longer than `MAX_WHOLE_CHARS` together.

    Longer texts are cut into blocks at line breaks or spaces. Blocks with the most words that occur almost nowhere else are
    selected, and some at even distances. Every text keeps at least its first and last block.
    """
    total_chars = sum(map(len, texts))
    if total_chars <= MAX_WHOLE_CHARS:
        return [[Segment(text)] for text in texts]
    return [_select(text, int(SCORED_CHARS * len(text) / total_chars)) for text in texts]


def _select(text: str, max_chars: int) -> list[Segment]:
    spans = _block_spans(text)
    count = max(2, max_chars // BLOCK_CHARS)
    if len(spans) <= count:
        return [Segment(text)]
    spread_count = max(2, int(count * SPREAD_FRACTION))
    selected = {round(i * (len(spans) - 1) / (spread_count - 1)) for i in range(spread_count)}
    rarities = _rarities(text, spans)
    for index in sorted(range(len(spans)), key=lambda index: (-rarities[index], index)):
        if len(selected) >= count:
            break
        selected.add(index)
    return _join(text, spans, sorted(selected))


def _block_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = min(start + BLOCK_CHARS, len(text))
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(" ", start + BLOCK_CHARS // 2, end))
            end = cut + 1 if cut > start else end
        spans.append((start, end))
        start = end
    return spans


def _rarities(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return how many words of each block occur in almost no other block. Checksums replace words, which saves memory."""
    occurrences = array("I", bytes(4 * _BUCKETS))
    words_of_blocks: list[array[int]] = []
    for start, end in spans:
        words = {zlib.crc32(word.encode("utf-8", "surrogatepass")) % _BUCKETS for word in text[start:end].split()}
        for word in words:
            occurrences[word] += 1
        words_of_blocks.append(array("I", words))
    return [sum(occurrences[word] <= MAX_OCCURRENCES for word in words) for words in words_of_blocks]


def _join(text: str, spans: Sequence[tuple[int, int]], selected: Sequence[int]) -> list[Segment]:
    """Return the selected blocks as segments, neighbours as one."""
    segments: list[Segment] = []
    first = selected[0]
    for index, following in zip(selected, [*selected[1:], None], strict=True):
        if following != index + 1:
            segments.append(Segment(text[spans[first][0] : spans[index][1]], follows_gap=bool(segments)))
            first = following if following is not None else first
    return segments
