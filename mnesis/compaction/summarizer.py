"""A model that writes summaries: its calls, their limits and their cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TypeVar

from anyio import to_thread

from mnesis.compaction.acceptance import MAX_LENGTH_RATIO, content_rejection, size_rejection
from mnesis.compaction.cached_prefix import CachedPrefix
from mnesis.compaction.extract import Passage
from mnesis.compaction.limits import Deadline, SpendingLimit
from mnesis.compaction.summary_prompt import build_prompt, cut_to_fit, split_passages
from mnesis.compaction.transcript import transcript_text
from mnesis.config import RetryConfig
from mnesis.errors import LLMAuthenticationError, NoModelError
from mnesis.llm.answer_lengths import AnswerLengths
from mnesis.llm.base import LLM, LLMReply, LLMRequest, prepare_client
from mnesis.llm.breaker import BreakerStatus, CircuitBreaker
from mnesis.llm.retry import Backoff, OnRetry, complete_with_retry
from mnesis.llm.thinking import max_output_tokens, strip_thinking
from mnesis.models.message import Message
from mnesis.models.usage import TokenUsage
from mnesis.tokens.estimator import TokenCounter

T = TypeVar("T")

MAX_PREVIOUS_FRACTION = 0.2
"""The largest fraction of the summarizer's window for the summary of earlier messages."""

CUT_FINISH_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete"})
"""The finish reasons of an answer that reached its limit, in the words of clients. litellm says "length" for all
providers."""

FILTERED_FINISH_REASONS = frozenset({"content_filter", "refusal", "safety"})


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """A request for one summary of `passages`.

    `source_tokens` is the size of the summarized messages or summaries. The model is asked for `target_tokens`; up to
    `max_tokens` are accepted. `condenses_summaries` says that the passages are summaries. `previous` is the summary of
    earlier messages, for reference, or "". `focus` names what the summary must keep above all, or is "". `messages` are
    the summarized messages; empty for summaries.
    """

    passages: Sequence[Passage]
    source_tokens: int
    target_tokens: int
    max_tokens: int
    condenses_summaries: bool = False
    previous: str = ""
    focus: str = ""
    messages: Sequence[Message] = ()


class RejectedSummaryError(Exception):
    """A model's answer is not a summary of its source. The message says why."""


class TooLongSummaryError(RejectedSummaryError):
    """A model's answer is longer than this summary may be. A limit of `needed_tokens` would have allowed it."""

    def __init__(self, reason: str, needed_tokens: int) -> None:
        super().__init__(reason)
        self.needed_tokens = needed_tokens


class SuspendedError(Exception):
    """The model is not called: it failed too often, the time is over, or a spending limit is reached."""


class TooShortLimitError(Exception):
    """The model is not called: its answers were too long for such a short summary."""


@dataclass
class Spending:
    """The number, usage and cost (US dollars) of calls. Calls without a usage report count as 0 tokens."""

    calls: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0

    def add(self, reply: LLMReply) -> None:
        """Add the usage and cost of one call."""
        if reply.usage is not None:
            self.usage = self.usage + reply.usage
        self.cost += reply.cost


@dataclass
class Summarizer:
    """A model that writes summaries.

    `input_tokens` is the largest input of one call, and `output_limit_tokens` the largest output, with reasoning; None
    means unknown. `concurrency` is the number of calls that the model answers at the same time. `instructions` replaces
    the built-in prompt. `backoff` can end the waits before retries. Calls end at the `deadline`, stop at the
    `spending_limit`, and are not made while the `breaker` is open; `on_breaker_change` is called when its state
    changes, with the reason. `lengths` are the limits that its answers exceeded in this session; the model is not
    called for summaries as short as these. `prefix_writer` is the session's model, which reads the conversation from
    its provider's cache: its `prefix`.
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
    concurrency: int = 1
    deadline: Deadline | None = None
    spending_limit: SpendingLimit = field(default_factory=SpendingLimit)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    lengths: AnswerLengths = field(default_factory=AnswerLengths)
    on_breaker_change: Callable[[BreakerStatus, str], None] = lambda status, reason: None
    prefix: CachedPrefix | None = None
    prefix_writer: Summarizer | None = None

    def set_deadline(self, deadline: Deadline) -> None:
        """Set the time at which all calls end, unless one is set."""
        self.deadline = self.deadline or deadline
        if self.prefix_writer is not None:
            self.prefix_writer.set_deadline(deadline)

    def find_cheaper_writer(self, request: SummaryRequest) -> Summarizer | None:
        """Return the writer that reads the messages from the provider's cache, if it can and costs less. None otherwise."""
        writer = self.prefix_writer
        if writer is None or writer.prefix is None or writer.suspension() is not None:
            return None
        is_cheaper = writer.prefix.is_cheaper(request.source_tokens, request.target_tokens)
        return writer if is_cheaper and writer.prefix.shows(request.messages) else None

    async def summarize(
        self, request: SummaryRequest, level: int, max_tokens: int, count: TokenCounter, spending: Spending
    ) -> str:
        """Return the model's summary. `spending` grows with every call, even if a later one fails.

        A source that does not fit into one call is read in several consecutive calls. Each call sees the previous
        answer, and the answers are joined. Each answer is checked against the text that it summarizes.

        Raises `RejectedSummaryError` if an answer, or all of them together, must not be used, and `SuspendedError` or
        `TooShortLimitError` if the model must not be called.
        """
        writer, limit_tokens = (self.model, level, self.prefix is not None), min(max_tokens, request.source_tokens - 1)
        if not self.lengths.can_ask(writer, limit_tokens):
            raise TooShortLimitError(f"its answers were too long for a summary of {limit_tokens:,} tokens")
        try:
            if self.prefix is not None:
                summary = await self._summarize_from_prefix(self.prefix, request, max_tokens, count, spending)
            else:
                summary = await self._summarize_texts(request, level, max_tokens, count, spending)
        except TooLongSummaryError as error:
            self.lengths.note_too_long(writer, limit_tokens, error.needed_tokens)
            raise
        self.lengths.note_met(writer, limit_tokens)
        return summary

    async def _summarize_texts(
        self, request: SummaryRequest, level: int, max_tokens: int, count: TokenCounter, spending: Spending
    ) -> str:
        previous = cut_to_fit(request.previous, int(self.input_tokens * MAX_PREVIOUS_FRACTION), count)
        texts = list(split_passages(request.passages, self.input_tokens - count(previous), count))
        target_tokens = request.target_tokens * max_tokens // max(request.max_tokens, 1)
        answers = []
        for text in texts:
            # In a thread, because the prompt is read from a file.
            prompt = await to_thread.run_sync(
                build_prompt,
                text,
                request.condenses_summaries,
                level,
                target_tokens // len(texts),
                self.instructions,
                previous,
                request.focus,
            )
            reply = await self._call_model(self._make_request(prompt, max_tokens // len(texts)), spending)
            answer = await self._accept(reply, text, request.source_tokens, max_tokens, max_tokens // len(texts), count)
            answers.append(answer)
            previous = cut_to_fit(answer, int(self.input_tokens * MAX_PREVIOUS_FRACTION), count)
        summary = "\n\n".join(answers)
        _check_size(count(summary), request.source_tokens, max_tokens)
        return summary

    async def _summarize_from_prefix(
        self, prefix: CachedPrefix, request: SummaryRequest, max_tokens: int, count: TokenCounter, spending: Spending
    ) -> str:
        """Return the summary of the request's messages, which the model reads from the provider's cache."""
        messages = await to_thread.run_sync(
            prefix.request_messages, request.messages, request.target_tokens, request.focus
        )
        call = LLMRequest(
            model=self.model,
            messages=messages,
            tools=prefix.tools,
            max_output_tokens=prefix.max_output_tokens,
            options=prefix.options,
            purpose="summary",
        )
        reply = await self._call_model(call, spending)
        source = transcript_text(request.passages)
        return await self._accept(reply, source, request.source_tokens, max_tokens, max_tokens, count)

    async def _accept(
        self,
        reply: LLMReply,
        source: str,
        source_tokens: int,
        max_tokens: int,
        max_answer_tokens: int,
        count: TokenCounter,
    ) -> str:
        """Return the text of an answer, and report the result to the breaker. Raises `RejectedSummaryError` if it is
        not a summary of `source`.
        """
        answer = strip_thinking(reply.text)
        try:
            _check_finish(reply.finish_reason, count(answer))
            _check_size(count(answer), source_tokens, max_tokens)
            if rejection := await to_thread.run_sync(content_rejection, answer, source, max_answer_tokens):
                raise RejectedSummaryError(rejection)
        except RejectedSummaryError as error:
            if self.breaker.status().state == "half_open":
                # This call was the trial of whether the model works again.
                self.note_rejections(str(error))
            raise
        self._watch_breaker(self.breaker.note_success, "the model writes summaries")
        return answer

    def note_rejections(self, reason: str) -> None:
        """Report that all answers for one summary were rejected. The breaker counts that as one failed call."""
        self._note_failure(f"its summaries are rejected: {reason}")

    def _make_request(self, prompt: list[dict[str, str]], max_tokens: int) -> LLMRequest:
        return LLMRequest(
            model=self.model,
            messages=prompt,
            max_output_tokens=max_output_tokens(max_tokens, self.output_limit_tokens),
            options=self.options,
            purpose="summary",
        )

    async def _call_model(self, request: LLMRequest, spending: Spending) -> LLMReply:
        """Call the model once, with retries. Raises `LLMError`, `TimeoutError`, `SuspendedError` or an error of the
        client.
        """
        await prepare_client(self.llm)
        seconds = self._allowed_seconds()
        request = replace(request, timeout_seconds=seconds)
        spending.calls += 1
        self.spending_limit.note_call()
        try:
            async with asyncio.timeout(seconds):
                reply = await complete_with_retry(self.llm, request, self.retry, self.on_retry, self.backoff)
        except TimeoutError as error:
            message = f"no answer within {seconds:g} s"
            self._note_failure(message)
            raise TimeoutError(message) from error
        except Exception as error:
            self._note_failure(f"{type(error).__name__}: {error}", is_final=_is_missing_key(error))
            raise
        spending.add(reply)
        self.spending_limit.note_cost(reply.cost)
        return reply

    def suspension(self) -> str | None:
        """Return why the model must not be called now, or None."""
        if self.deadline is not None and not self.deadline.remaining_seconds:
            return f"the time for this compaction ({self.deadline.total_seconds:g} s) is over"
        if setting := self.spending_limit.find_reached_setting():
            return f"the limit {setting} is reached"
        status = self.breaker.status()
        if status.state != "closed" and status.retry_after_seconds:
            seconds = math.ceil(status.retry_after_seconds)
            return f"{self.model} failed {status.failures} times in a row; it is not called for another {seconds} s"
        return None

    def _allowed_seconds(self) -> float:
        """Return how long the next call may take. Raises `SuspendedError` if it must not be made."""
        if reason := self.suspension():
            raise SuspendedError(reason)
        if not self._watch_breaker(self.breaker.try_acquire, "trying again"):
            raise SuspendedError(f"another call is testing whether {self.model} works again")
        remaining_seconds = self.deadline.remaining_seconds if self.deadline else math.inf
        return min(self.timeout_seconds, remaining_seconds)

    def _note_failure(self, reason: str, *, is_final: bool = False) -> None:
        if self.backoff is None or not self.backoff.is_ended:
            self._watch_breaker(lambda: self.breaker.note_failure(is_final=is_final), reason)

    def _watch_breaker(self, change: Callable[[], T], reason: str) -> T:
        """Change the breaker, and report its state if it changed."""
        before = self.breaker.status().state
        outcome = change()
        status = self.breaker.status()
        if status.state != before:
            self.on_breaker_change(status, reason)
        return outcome


def _is_missing_key(error: Exception) -> bool:
    """Return whether no call can succeed before the user changes the key.

    A 403 may concern this one text: OpenRouter answers so when its moderation flags an input (openrouter.ai/docs, errors).
    """
    if isinstance(error, NoModelError):
        return True
    return isinstance(error, LLMAuthenticationError) and error.status_code != HTTPStatus.FORBIDDEN


def _check_finish(finish_reason: str, answer_tokens: int) -> None:
    """Raise `RejectedSummaryError` if an answer that ended for this reason must not be used."""
    if finish_reason.lower() in CUT_FINISH_REASONS:
        reason = f"it was cut off at the output limit (finish_reason {finish_reason!r})"
        raise TooLongSummaryError(reason, _needed_tokens(answer_tokens))
    if finish_reason.lower() in FILTERED_FINISH_REASONS:
        raise RejectedSummaryError(f"the provider withheld it (finish_reason {finish_reason!r})")


def _check_size(answer_tokens: int, source_tokens: int, max_tokens: int) -> None:
    """Raise `TooLongSummaryError` if an answer of this size must not be used."""
    if rejection := size_rejection(answer_tokens, source_tokens, max_tokens):
        raise TooLongSummaryError(rejection, _needed_tokens(answer_tokens))


def _needed_tokens(answer_tokens: int) -> int:
    """Return the smallest limit with which an answer of this size is accepted."""
    return math.ceil(answer_tokens / MAX_LENGTH_RATIO)
