"""Where to dig: which stretch behind a summary is about what, so that a model knows what to expand. Pure.

The engine writes it, not the model: ids and places are right, and text in the conversation cannot forge them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from mnesis.compaction.sentences import features
from mnesis.compaction.transcript import passages, plain_text
from mnesis.models.message import Message
from mnesis.models.summary import Summary
from mnesis.search.analysis import STOP_WORDS

STRETCHES = 4
WORDS = 6
SMALLEST_SOURCE_TOKENS = 400
SHARE = 0.05
"""Of the tokens summarised that all pointers together may take."""

Count = Callable[[str], int]


def digs(messages: Sequence[Message], children: Sequence[Summary], count: Count) -> tuple[str, ...]:
    """One line per stretch of messages, or per child summary: how to open it, and its most telling words.

    Empty for sources so small that pointers would not pay.
    """
    source = sum(m.token_count for m in messages) + sum(child.token_count for child in children)
    if source < SMALLEST_SOURCE_TOKENS:
        return ()
    places, texts = _of_messages(messages) if messages else _of_children(children)
    if len(texts) < 2:
        return ()
    told = [_telling(text, texts) for text in texts]
    for words in range(WORDS, 1, -1):
        lines = tuple(f"{place}: {', '.join(each[:words])}" for place, each in zip(places, told, strict=True) if each)
        if sum(count(line) + 1 for line in lines) <= source * SHARE:
            return lines
    return ()


def _of_messages(messages: Sequence[Message]) -> tuple[list[str], list[str]]:
    stretches = _stretches(messages)
    before = [messages[0].seq - 1, *(stretch[-1].seq for stretch in stretches)]
    places = [
        f'cursor="{after}" messages {stretch[0].seq}-{stretch[-1].seq}'
        for after, stretch in zip(before, stretches, strict=False)
    ]
    return places, [plain_text(passages(stretch)) for stretch in stretches]


def _of_children(children: Sequence[Summary]) -> tuple[list[str], list[str]]:
    places = [f"{child.id} messages {child.first_seq}-{child.last_seq}" for child in children]
    return places, [child.text for child in children]


def _stretches(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages in up to `STRETCHES` runs of about as many tokens each."""
    size = sum(message.token_count for message in messages) / STRETCHES
    runs: list[list[Message]] = [[]]
    taken = 0
    for message in messages:
        if taken >= size * len(runs) and len(runs) < STRETCHES:
            runs.append([])
        runs[-1].append(message)
        taken += message.token_count
    return [run for run in runs if run]


def _telling(text: str, texts: Sequence[str]) -> list[str]:
    """Words of a text that the others have not, or less; names and numbers before plain words."""
    others = Counter(word for other in texts for word in features(other))
    found = features(text)
    counts = Counter(text.lower().split())
    wanted = [word for word in found if word not in STOP_WORDS and len(word) > 2 and len(word) <= 40]
    score = {
        word: found[word] * math.log(1 + len(texts) / others[word]) * math.log(2 + counts[word]) for word in wanted
    }
    return sorted(score, key=lambda word: (-score[word], word))[:WORDS]
