"""Summaries that the engine accepts, made from what a summariser is asked to summarise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mnesis.llm.base import LLMReply, LLMRequest

_MAX_WORDS = re.compile(r"at most about (\d+) words")
_BOUNDARY = re.compile(r"^=== [0-9a-f]{16} ===$", re.MULTILINE)


def record_in(messages: Sequence[dict[str, Any]]) -> str:
    """Return the transcript in the messages of a summary request."""
    return _BOUNDARY.split(str(messages[-1]["content"]))[1]


def acceptable_summary(request: LLMRequest | Sequence[dict[str, Any]], opening: str = "They spoke about") -> str:
    """Return a short summary that names what the source names: its numbers and names, and its longest words.

    It also answers requests that do not ask for a summary, with the opening alone.
    """
    messages = request.messages if isinstance(request, LLMRequest) else request
    asked = str(messages[-1]["content"])
    if not _BOUNDARY.search(asked):
        return f"{opening} nothing."
    record = record_in(messages)
    found = _MAX_WORDS.findall(asked)
    max_words = max(min(int(found[-1]) // 4 if found else 14, 14), 3)
    words = list(dict.fromkeys(word.strip(".,:;!?\"'()[]{}") for word in record.split()))
    facts = sorted(words, key=lambda word: (not any(map(str.isdigit, word)), not word[:1].isupper(), -len(word)))
    chosen = dict.fromkeys([*facts[: max_words - 2], *sorted(words, key=len, reverse=True)[:2]])
    return f"{opening} {', '.join(chosen)}."


class WordyModel:
    """Writes summaries that are too long for a small window, and counts them."""

    def __init__(self, words: int = 54) -> None:
        self.words = words
        self.summary_requests = 0

    async def complete(self, request: LLMRequest) -> LLMReply:
        if request.purpose != "summary":
            return LLMReply(text="answer " + "words " * 60)
        self.summary_requests += 1
        return LLMReply(text=" ".join(f"fact{number} about valve{number}" for number in range(self.words // 2)))

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        yield await self.complete(request)
