"""Summaries at three levels.

Level 1 is structured and level 2 terse, both by a model. Level 3 is extracted without a model and never fails. A
model's answer is accepted only if it is smaller than its source, within its budget, and not obviously bad (empty,
looping, echoing, declining). Otherwise the next level is tried.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources

from anyio import to_thread

from mnesis.compaction.acceptance import rejection_reason
from mnesis.compaction.extract import Passage, extract
from mnesis.compaction.transcript import transcript_text
from mnesis.config import RetryConfig
from mnesis.errors import LLMAuthenticationError, NoModelError
from mnesis.formats.openai import replace_lone_surrogates
from mnesis.llm.base import LLM, LLMRequest, prepare_client
from mnesis.llm.retry import Backoff, OnRetry, complete_with_retry
from mnesis.models.results import CompactionAttempt
from mnesis.models.usage import TokenUsage
from mnesis.redaction import get_logger
from mnesis.tokens.estimator import TokenCounter, split_text

logger = get_logger(__name__)

WORDS_PER_TOKEN = 0.6
"""Models are asked for words, since they cannot count tokens. English prose has about 0.75 words per token."""

MIN_ANSWER_TOKENS = 256
"""The least `max_output_tokens` of a call: a tighter limit would cut an answer in the middle of a sentence."""

PASSAGE_OVERHEAD_TOKENS = 8
"""For the speaker's name and the blank line between passages."""


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """A request for one summary of `passages`.

    `source_tokens` is the size of the summarized messages or summaries. The model is asked for `target_tokens`; up to
    `max_tokens` are accepted. `condenses_summaries` says that the passages are summaries.
    """

    passages: Sequence[Passage]
    source_tokens: int
    target_tokens: int
    max_tokens: int
    condenses_summaries: bool = False


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """The text of a summary, its level, and the attempts up to it."""

    text: str
    level: int
    attempts: tuple[CompactionAttempt, ...]
    model_id: str = ""


@dataclass
class Summarizer:
    """A model that writes summaries.

    `input_tokens` is how much the model reads in one call. `instructions` replaces the built-in prompt.
    `backoff` can end the waits before retries. `usage` and `cost`
    add up over all calls. `is_available` becomes False when the provider rejects the API key; no further calls are made.
    """

    llm: LLM
    model: str
    input_tokens: int
    timeout_seconds: float
    retry: RetryConfig
    options: dict[str, object] = field(default_factory=dict, repr=False)
    instructions: str | None = None
    on_retry: OnRetry | None = None
    backoff: Backoff | None = None
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    is_available: bool = True

    async def summarize(self, request: SummaryRequest, level: int, max_tokens: int, count: TokenCounter) -> str:
        """Return the model's summary.

        A source that does not fit into one call is read in several; the answers are joined.
        """
        texts = list(split_passages(request.passages, self.input_tokens, count))
        target_tokens = request.target_tokens * max_tokens // max(request.max_tokens, 1)
        answers = [
            await self._call_model(text, request, level, target_tokens // len(texts), max_tokens // len(texts))
            for text in texts
        ]
        return "\n\n".join(answers).strip()

    async def _call_model(
        self, text: str, summary_request: SummaryRequest, level: int, target_tokens: int, max_tokens: int
    ) -> str:
        request = LLMRequest(
            model=self.model,
            messages=build_prompt(text, summary_request.condenses_summaries, level, target_tokens, self.instructions),
            max_output_tokens=max(max_tokens, MIN_ANSWER_TOKENS),
            timeout_seconds=self.timeout_seconds,
            options=self.options,
            purpose="summary",
        )
        await prepare_client(self.llm)
        async with asyncio.timeout(self.timeout_seconds):
            reply = await complete_with_retry(self.llm, request, self.retry, self.on_retry, self.backoff)
        if reply.usage is not None:
            self.usage = self.usage + reply.usage
        self.cost += reply.cost
        return reply.text


def build_prompt(
    text: str, condenses_summaries: bool, level: int, target_tokens: int, instructions: str | None = None
) -> list[dict[str, str]]:
    """Build the messages of one call.

    The record's boundary is a hash of the record, so the record cannot contain it.
    """
    text = replace_lone_surrogates(text)
    boundary = f"=== {hashlib.sha256(text.encode()).hexdigest()[:16]} ==="
    words = max(int(target_tokens * WORDS_PER_TOKEN), 20)
    if instructions is None:
        instructions = _load_prompt("condense" if condenses_summaries else "level", level)
        instructions = instructions.replace("{boundary}", boundary).replace("{words}", str(words))
    return [
        {"role": "system", "content": instructions},
        {"role": "user", "content": f"{boundary}\n{text}\n{boundary}\n\nUse at most about {words} words."},
    ]


def _load_prompt(kind: str, level: int) -> str:
    return resources.files("mnesis.compaction").joinpath("prompts", f"{kind}{level}.md").read_text("utf-8")


def split_passages(passages: Sequence[Passage], max_tokens: int, count: TokenCounter) -> Iterator[str]:
    """Join the passages to texts of about `max_tokens` at most.

    Longer passages are split; nothing is dropped.
    """
    batch: list[Passage] = []
    batch_tokens = 0
    for passage in passages:
        for piece in _split_passage(passage, max_tokens, count):
            tokens = count(piece.text) + PASSAGE_OVERHEAD_TOKENS
            if batch and batch_tokens + tokens > max_tokens:
                yield transcript_text(batch)
                batch, batch_tokens = [], 0
            batch.append(piece)
            batch_tokens += tokens
    if batch:
        yield transcript_text(batch)


def _split_passage(passage: Passage, max_tokens: int, count: TokenCounter) -> Iterator[Passage]:
    """Split a passage into pieces that fit, at white space where possible.

    Pieces get shorter, so the recursion ends.
    """
    available_tokens, tokens = max(max_tokens - PASSAGE_OVERHEAD_TOKENS, 1), count(passage.text)
    if tokens <= available_tokens or len(passage.text) < 2:
        yield passage
        return
    max_chars = -(-len(passage.text) // -(-tokens // available_tokens))
    for text in split_text(passage.text, max_chars):
        yield from _split_passage(replace(passage, text=text), max_tokens, count)


async def summarize(
    request: SummaryRequest, summarizer: Summarizer | None, count: TokenCounter, *, level2_enabled: bool = True
) -> SummaryDraft:
    """Return the summary of the first level that succeeds.

    Level 3 is not checked: the caller decides whether it helps.
    """
    attempts: list[CompactionAttempt] = []
    source = await to_thread.run_sync(transcript_text, request.passages)
    for level, max_tokens in [(1, request.max_tokens), (2, request.max_tokens // 2)]:
        if summarizer is None or not summarizer.is_available or (level == 2 and not level2_enabled):
            continue
        text, rejection = await _attempt(request, summarizer, level, max_tokens, source, count)
        attempts.append(CompactionAttempt(level=level, rejection=rejection))
        if not rejection:
            return SummaryDraft(text=text, level=level, attempts=tuple(attempts), model_id=summarizer.model)
        logger.info("level %d summary rejected: %s", level, rejection)
    text = await to_thread.run_sync(lambda: extract(request.passages, max_tokens=request.target_tokens, count=count))
    attempts.append(CompactionAttempt(level=3))
    return SummaryDraft(text=text, level=3, attempts=tuple(attempts))


async def _attempt(
    request: SummaryRequest, summarizer: Summarizer, level: int, max_tokens: int, source: str, count: TokenCounter
) -> tuple[str, str | None]:
    """Return the text of one level, and the reason to reject it, or None if it is accepted."""
    try:
        text = await summarizer.summarize(request, level, max_tokens, count)
    except (LLMAuthenticationError, NoModelError) as error:
        summarizer.is_available = False
        return "", f"{type(error).__name__}: {error}"
    except TimeoutError:
        return "", f"no answer within {summarizer.timeout_seconds:g} s"
    except Exception as error:
        # No failure of a summarizer, which may be the user's own function, may stop a compaction.
        return "", f"{type(error).__name__}: {error}"
    tokens = count(text)
    rejection = rejection_reason(
        text, source, summary_tokens=tokens, source_tokens=request.source_tokens, max_tokens=max_tokens
    )
    return text, rejection
