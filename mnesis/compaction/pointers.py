"""Drill-down pointers from a summary to its originals.

They describe each segment under a summary, so that a model knows what to expand. The engine writes them, not the model,
so ids and ranges are correct and text in the conversation cannot forge them. Pure functions, no I/O.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from mnesis.compaction.sentences import features
from mnesis.compaction.transcript import passages, transcript_text
from mnesis.models.message import Message
from mnesis.models.summary import Summary
from mnesis.search.analysis import STOP_WORDS
from mnesis.tokens.estimator import TokenCounter

MAX_SEGMENTS = 4
MAX_WORDS = 6
"""The number of words in one pointer."""

MIN_SOURCE_TOKENS = 400
"""Below this size, reading the originals costs little more than reading pointers to them."""

MAX_FRACTION = 0.05
"""The size of all pointers together, as a fraction of the summarized tokens."""


def make_pointers(messages: Sequence[Message], children: Sequence[Summary], count: TokenCounter) -> tuple[str, ...]:
    """Write one line per segment of messages, or per child summary.

    Each line says how to expand the segment and lists its most distinctive words. Returns nothing if the source is too
    small, or if no version of the lines fits `MAX_FRACTION`.
    """
    source_tokens = sum(m.token_count for m in messages) + sum(child.token_count for child in children)
    if source_tokens < MIN_SOURCE_TOKENS:
        return ()
    locations, texts = _message_segments(messages) if messages else _child_segments(children)
    if len(texts) < 2:
        return ()
    keywords = [_distinctive_words(text, texts) for text in texts]
    for max_words in range(MAX_WORDS, 1, -1):
        lines = tuple(
            f"{location}: {', '.join(words[:max_words])}"
            for location, words in zip(locations, keywords, strict=True)
            if words
        )
        if sum(count(line) + 1 for line in lines) <= source_tokens * MAX_FRACTION:
            return lines
    return ()


def _message_segments(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    segments = _split_evenly(messages)
    cursors = [messages[0].seq - 1, *(segment[-1].seq for segment in segments)]
    locations = [
        f'cursor="{cursor}" messages {segment[0].seq}-{segment[-1].seq}'
        for cursor, segment in zip(cursors, segments, strict=False)
    ]
    return locations, [transcript_text(passages(segment)) for segment in segments]


def _child_segments(children: Sequence[Summary]) -> tuple[list[str], list[str]]:
    locations = [f"{child.id} messages {child.first_seq}-{child.last_seq}" for child in children]
    return locations, [child.text for child in children]


def _split_evenly(messages: Sequence[Message]) -> list[list[Message]]:
    """Split the messages into up to `MAX_SEGMENTS` segments of about the same size."""
    segment_tokens = sum(message.token_count for message in messages) / MAX_SEGMENTS
    segments: list[list[Message]] = [[]]
    tokens_so_far = 0
    for message in messages:
        if tokens_so_far >= segment_tokens * len(segments) and len(segments) < MAX_SEGMENTS:
            segments.append([])
        segments[-1].append(message)
        tokens_so_far += message.token_count
    return [segment for segment in segments if segment]


def _distinctive_words(text: str, texts: Sequence[str]) -> list[str]:
    """Return the words that are frequent in a text and rare in the others, best first.

    Names and numbers weigh more.
    """
    text_counts = Counter(word for other in texts for word in features(other))
    weights = features(text)
    word_counts = Counter(text.lower().split())
    candidates = [word for word in weights if word not in STOP_WORDS and len(word) > 2 and len(word) <= 40]
    scores = {
        word: weights[word] * math.log(1 + len(texts) / text_counts[word]) * math.log(2 + word_counts[word])
        for word in candidates
    }
    return sorted(scores, key=lambda word: (-scores[word], word))[:MAX_WORDS]
