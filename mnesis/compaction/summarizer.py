"""A model that writes summaries: its calls, their limits and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from anyio import to_thread

from mnesis.compaction.acceptance import content_rejection, size_rejection
from mnesis.compaction.extract import Passage
from mnesis.compaction.summary_prompt import build_prompt, split_passages
from mnesis.config import RetryConfig
from mnesis.llm.base import LLM, LLMReply, LLMRequest, prepare_client
from mnesis.llm.retry import Backoff, OnRetry, complete_with_retry
from mnesis.llm.thinking import max_output_tokens, strip_thinking
from mnesis.models.usage import TokenUsage
from mnesis.tokens.estimator import TokenCounter

CUT_FINISH_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete"})
"""What clients call the end of an answer that reached its limit. litellm says "length" for all providers."""

FILTERED_FINISH_REASONS = frozenset({"content_filter", "refusal", "safety"})


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


class RejectedSummaryError(Exception):
    """A model's answer is not a summary of its source. The message says why."""


@dataclass
class Spending:
    """The usage and cost (US dollars) of calls. Calls without a usage report count as none."""

    usage: TokenUsage = TokenUsage()
    cost: float = 0.0

    def add(self, reply: LLMReply) -> None:
        """Add one call."""
        if reply.usage is not None:
            self.usage = self.usage + reply.usage
        self.cost += reply.cost


@dataclass
class Summarizer:
    """A model that writes summaries.

    `input_tokens` is how much the model reads in one call, and `output_limit_tokens` the most it can be asked to write, with
    its reasoning; None means unknown. `instructions` replaces the built-in prompt. `backoff` can end the waits before retries.
    `is_available` becomes False when the provider rejects the API key; no further calls are made.
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
    output_limit_tokens: int | None = None
    is_available: bool = True

    async def summarize(
        self, request: SummaryRequest, level: int, max_tokens: int, count: TokenCounter, spending: Spending
    ) -> str:
        """Return the model's summary. `spending` grows with every call, also if a later one fails.

        A source that does not fit into one call is read in several; the answers are joined. Each answer is checked against
        the text that it summarizes.

        Raises `RejectedSummaryError` if an answer, or all of them together, must not be used.
        """
        texts = list(split_passages(request.passages, self.input_tokens, count))
        target_tokens = request.target_tokens * max_tokens // max(request.max_tokens, 1)
        answers = []
        for text in texts:
            reply = await self._call_model(
                text, request, level, target_tokens // len(texts), max_tokens // len(texts), spending
            )
            answer = strip_thinking(reply.text)
            rejection = (
                _finish_rejection(reply.finish_reason)
                or size_rejection(count(answer), request.source_tokens, max_tokens)
                or await to_thread.run_sync(content_rejection, answer, text, max_tokens // len(texts))
            )
            if rejection:
                raise RejectedSummaryError(rejection)
            answers.append(answer)
        summary = "\n\n".join(answers)
        if rejection := size_rejection(count(summary), request.source_tokens, max_tokens):
            raise RejectedSummaryError(rejection)
        return summary

    async def _call_model(
        self,
        text: str,
        summary_request: SummaryRequest,
        level: int,
        target_tokens: int,
        max_tokens: int,
        spending: Spending,
    ) -> LLMReply:
        request = LLMRequest(
            model=self.model,
            messages=build_prompt(text, summary_request.condenses_summaries, level, target_tokens, self.instructions),
            max_output_tokens=max_output_tokens(max_tokens, self.output_limit_tokens),
            timeout_seconds=self.timeout_seconds,
            options=self.options,
            purpose="summary",
        )
        await prepare_client(self.llm)
        async with asyncio.timeout(self.timeout_seconds):
            reply = await complete_with_retry(self.llm, request, self.retry, self.on_retry, self.backoff)
        spending.add(reply)
        return reply


def _finish_rejection(finish_reason: str) -> str | None:
    """Return why an answer that ended for this reason must be rejected, or None."""
    if finish_reason.lower() in CUT_FINISH_REASONS:
        return f"it was cut off at the output limit (finish_reason {finish_reason!r})"
    if finish_reason.lower() in FILTERED_FINISH_REASONS:
        return f"the provider withheld it (finish_reason {finish_reason!r})"
    return None
