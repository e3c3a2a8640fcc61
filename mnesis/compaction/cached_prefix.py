"""Summaries that the session's model writes from the conversation in its provider's prompt cache.

A request that begins with exactly the cached messages and ends with an instruction reads the conversation at a fraction
of the price. Pure functions, no I/O, except that the instruction is read from the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnesis.compaction.policy import prefix_is_cheaper
from mnesis.compaction.summary_prompt import WORDS_PER_TOKEN, load_prompt
from mnesis.compaction.transcript import passages
from mnesis.formats.openai import replace_lone_surrogates
from mnesis.models.dialects import PromptCache
from mnesis.models.message import Message

QUOTE_CHARS = 300
"""Enough to find a message again."""

INSTRUCTION_TOKENS = 500
"""Estimated size of the instruction with its two quotations."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """A request whose `messages` begin with those that the provider has cached, with the `tools` and `options` that
    belong to it.

    `shown` has the messages of the log, by `seq`, that it shows unchanged. `cached_tokens` are in `cache`,
    `uncached_tokens` are not. `price_ratio` is the price of a token of the compaction model, divided by that of the
    session's model.
    """

    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]]
    options: dict[str, Any] = field(repr=False)
    shown: Mapping[int, Message]
    cache: PromptCache
    cached_tokens: int
    uncached_tokens: int
    price_ratio: float
    max_output_tokens: int | None = None

    def shows(self, messages: Sequence[Message]) -> bool:
        """Return whether the request shows all these messages unchanged."""
        shown = self.shown
        return bool(messages) and all(m.seq in shown and shown[m.seq].parts == m.parts for m in messages)

    def is_cheaper(self, transcript_tokens: int, summary_tokens: int) -> bool:
        """Return whether a summary of `summary_tokens` costs less from the cache than from a transcript."""
        return prefix_is_cheaper(
            self.cache,
            cached_tokens=self.cached_tokens,
            uncached_tokens=self.uncached_tokens + INSTRUCTION_TOKENS,
            transcript_tokens=transcript_tokens,
            summary_tokens=summary_tokens,
            price_ratio=self.price_ratio,
        )

    def request_messages(
        self, messages: Sequence[Message], target_tokens: int, focus: str = ""
    ) -> list[dict[str, Any]]:
        """Return the messages of a request for a summary of `messages`, which must be consecutive."""
        words = max(int(target_tokens * WORDS_PER_TOKEN), 20)
        first, last = _quote(messages[0], at_end=False), _quote(messages[-1], at_end=True)
        boundary = f"=== {hashlib.sha256((first + last).encode()).hexdigest()[:16]} ==="
        instruction = (
            load_prompt("prefix", 1)
            .replace("{boundary}", boundary)
            .replace("{words}", str(words))
            .replace("{count}", str(len(messages)))
            .replace("{focus}", f"Above all, keep everything that concerns: {' '.join(focus.split())}" if focus else "")
            .replace("{first}", first)
            .replace("{last}", last)
        )
        return [*self.messages, {"role": "user", "content": replace_lone_surrogates(instruction.strip())}]


def _quote(message: Message, *, at_end: bool) -> str:
    """Return the beginning or the end of a message, with its speaker."""
    texts = [passage.text for passage in passages([message])]
    text = "\n".join(texts)
    if len(text) > QUOTE_CHARS:
        text = f"… {text[-QUOTE_CHARS:]}" if at_end else f"{text[:QUOTE_CHARS]} …"
    quoted: str = replace_lone_surrogates(f"[{message.role}] {text}")
    return quoted
