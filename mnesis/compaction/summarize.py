"""How a summary is made: structured by a model, terse by a model, extracted without one. The last never fails.

An answer is taken only if it is smaller than what it stands for, within its budget and no evident failure (empty, a
loop, an echo, a refusal); otherwise the next level is tried.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources

from anyio import to_thread

from mnesis.compaction.acceptance import refusal
from mnesis.compaction.extract import Passage, extract
from mnesis.compaction.transcript import plain_text
from mnesis.config import RetryConfig
from mnesis.errors import LLMAuthenticationError
from mnesis.formats.openai import sendable
from mnesis.llm.base import LLM, LLMRequest
from mnesis.llm.retry import OnRetry, complete_with_retry
from mnesis.models.results import CompactionAttempt
from mnesis.models.usage import TokenUsage
from mnesis.tokens.estimator import pieces as text_pieces

logger = logging.getLogger(__name__)

Count = Callable[[str], int]
WORDS_PER_TOKEN = 0.6
SMALLEST_ANSWER_TOKENS = 256
# The speaker's name and the blank line between passages.
PASSAGE_OVERHEAD_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Order:
    """One summary to be made: of what, standing for how many tokens; how many are asked for, how many are taken at most.

    `condensing`: what is read are summaries.
    """

    passages: Sequence[Passage]
    source_tokens: int
    target_tokens: int
    max_tokens: int
    condensing: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A summary's text, the level it was made at, and the tries before it."""

    text: str
    level: int
    attempts: tuple[CompactionAttempt, ...]
    model_id: str = ""


@dataclass
class Writer:
    """A model that writes summaries. `input_tokens` is how much it can read at once; usage and cost add up over its calls.

    `instructions` replaces the built-in prompt. `has_key` turns False when the provider says there is no valid key: then
    it is not asked again.
    """

    llm: LLM
    model: str
    input_tokens: int
    timeout_seconds: float
    retry: RetryConfig
    options: dict[str, object] = field(default_factory=dict)
    instructions: str | None = None
    on_retry: OnRetry | None = None
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    has_key: bool = True

    async def write(self, order: Order, level: int, max_tokens: int, count: Count) -> str:
        """The answer for one order; what does not fit into one call is read in several, and the answers are joined."""
        pieces = list(pieces_of(order.passages, self.input_tokens, count))
        target = order.target_tokens * max_tokens // max(order.max_tokens, 1)
        answers = [
            await self._ask(piece, order, level, target // len(pieces), max_tokens // len(pieces)) for piece in pieces
        ]
        return "\n\n".join(answers).strip()

    async def _ask(self, text: str, order: Order, level: int, target_tokens: int, max_tokens: int) -> str:
        request = LLMRequest(
            model=self.model,
            messages=prompt_messages(text, order.condensing, level, target_tokens, self.instructions),
            max_output_tokens=max(max_tokens, SMALLEST_ANSWER_TOKENS),
            timeout_seconds=self.timeout_seconds,
            options=self.options,
            purpose="summary",
        )
        async with asyncio.timeout(self.timeout_seconds):
            reply = await complete_with_retry(self.llm, request, self.retry, self.on_retry)
        if reply.usage is not None:
            self.usage = self.usage + reply.usage
        self.cost += reply.cost
        return reply.text


def prompt_messages(
    text: str, condensing: bool, level: int, target_tokens: int, instructions: str | None = None
) -> list[dict[str, str]]:
    """The prompt of one summariser call. The record's boundary is a hash of the record, so nothing in it can close it."""
    text = sendable(text)
    boundary = f"=== {hashlib.sha256(text.encode()).hexdigest()[:16]} ==="
    words = max(int(target_tokens * WORDS_PER_TOKEN), 20)
    if instructions is None:
        instructions = _prompt("condense" if condensing else "level", level)
        instructions = instructions.replace("{boundary}", boundary).replace("{words}", str(words))
    return [
        {"role": "system", "content": instructions},
        {"role": "user", "content": f"{boundary}\n{text}\n{boundary}\n\nUse at most about {words} words."},
    ]


def _prompt(kind: str, level: int) -> str:
    return resources.files("mnesis.compaction").joinpath("prompts", f"{kind}{level}.md").read_text("utf-8")


def pieces_of(passages: Sequence[Passage], max_tokens: int, count: Count) -> Iterator[str]:
    """The passages as texts of at most about `max_tokens`, nothing left out; a passage too long for one text is cut."""
    piece: list[Passage] = []
    size = 0
    for passage in passages:
        for part in _cut(passage, max_tokens, count):
            tokens = count(part.text) + PASSAGE_OVERHEAD_TOKENS
            if piece and size + tokens > max_tokens:
                yield plain_text(piece)
                piece, size = [], 0
            piece.append(part)
            size += tokens
    if piece:
        yield plain_text(piece)


def _cut(passage: Passage, max_tokens: int, count: Count) -> Iterator[Passage]:
    """The passage in pieces that fit, cut at white space where there is some. Each piece is shorter, so this ends."""
    room, tokens = max(max_tokens - PASSAGE_OVERHEAD_TOKENS, 1), count(passage.text)
    if tokens <= room or len(passage.text) < 2:
        yield passage
        return
    width = -(-len(passage.text) // -(-tokens // room))
    for text in text_pieces(passage.text, width):
        yield from _cut(replace(passage, text=text), max_tokens, count)


async def summarise(order: Order, writer: Writer | None, count: Count, *, level2: bool = True) -> Draft:
    """The best summary that can be had. Level 3 is taken as it comes; the caller sees whether it helps."""
    attempts: list[CompactionAttempt] = []
    source = await to_thread.run_sync(plain_text, order.passages)
    for level, max_tokens in [(1, order.max_tokens), (2, order.max_tokens // 2)]:
        if writer is None or not writer.has_key or (level == 2 and not level2):
            continue
        text, reason = await _try(order, writer, level, max_tokens, source, count)
        attempts.append(CompactionAttempt(level=level, refused=reason))
        if not reason:
            return Draft(text=text, level=level, attempts=tuple(attempts), model_id=writer.model)
        logger.info("level %d summary not taken: %s", level, reason)
    text = await to_thread.run_sync(lambda: extract(order.passages, max_tokens=order.target_tokens, count=count))
    attempts.append(CompactionAttempt(level=3))
    return Draft(text=text, level=3, attempts=tuple(attempts))


async def _try(order: Order, writer: Writer, level: int, max_tokens: int, source: str, count: Count) -> tuple[str, str]:
    """The text, and why it cannot be taken ("" if it can)."""
    try:
        text = await writer.write(order, level, max_tokens, count)
    except LLMAuthenticationError as error:
        writer.has_key = False
        return "", f"{type(error).__name__}: {error}"
    except TimeoutError:
        return "", f"no answer within {writer.timeout_seconds:g} s"
    except Exception as error:
        # Whatever a summariser, possibly the user's own function, fails with must not stop a compaction.
        return "", f"{type(error).__name__}: {error}"
    tokens = count(text)
    reason = refusal(text, source, summary_tokens=tokens, source_tokens=order.source_tokens, max_tokens=max_tokens)
    return text, reason
