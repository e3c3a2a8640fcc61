"""The use of the provider's cache by a request, and the reason for a miss. Pure functions, no I/O.

The figures are the provider's. A request can read at most the tokens that the previous request left in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.formats.request_digests import RequestDigests
from mnesis.models.dialects import PromptCache
from mnesis.models.results import CacheMissCause, CacheReport
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord
from mnesis.models.usage import TokenUsage

MIN_MISS_TOKENS = 1_024
"""Providers cache in blocks (128 tokens at OpenAI, 64 at DeepSeek), and do not cache the end of a request at once."""

MIN_MISS_FRACTION = 0.1
"""A fraction of the tokens that could have been read. No provider promises to read a smaller rest."""


@dataclass(frozen=True, slots=True)
class CacheAge:
    """The time for which the cache of the newest request has been unused. `answered_at` identifies the request."""

    answered_at: int
    idle_seconds: float
    lifetime_seconds: float

    @property
    def left_seconds(self) -> float:
        """The seconds until the cache has certainly expired. Negative afterwards."""
        return self.lifetime_seconds - self.idle_seconds


def describe_request(
    digests: RequestDigests,
    usage: TokenUsage,
    *,
    model: str,
    answered_at: int,
    fold_count: int,
    lifetime_seconds: float | None,
) -> SentRequest:
    """Return the facts to store about a request that was answered at `answered_at`, in milliseconds since 1970."""
    return SentRequest(
        model=model,
        answered_at=answered_at,
        lifetime_seconds=lifetime_seconds,
        input_tokens=usage.request_tokens,
        cached_tokens=usage.cached_tokens,
        tools_digest=digests.tools,
        system_digest=digests.system,
        options_digest=digests.options,
        messages_digest=digests.messages[-1] if digests.messages else "",
        message_count=len(digests.messages),
        fold_count=fold_count,
    )


def report_cache(
    before: SessionRecord,
    request: SentRequest,
    digests: RequestDigests,
    usage: TokenUsage,
    *,
    sent_at: int,
    cache: PromptCache | None,
) -> CacheReport:
    """Return the use of the cache by `request`, which was sent at `sent_at`, in milliseconds since 1970. `before` is
    the session without the request. `cache` is None if the provider's cache is not known.
    """
    previous = before.last_request
    expected_tokens = min(_cached_before(previous, cache), usage.request_tokens)
    missed_tokens = expected_tokens - usage.cache_read
    cause: CacheMissCause | None = None
    if previous is not None and missed_tokens >= max(MIN_MISS_TOKENS, expected_tokens * MIN_MISS_FRACTION):
        cause = _find_cause(previous, request, digests, sent_at)
        if cause == "eviction" and not before.usage.cache_read and not previous.cached_tokens:
            # There is no sign that this endpoint has a cache or reports what it reads from it.
            cause, expected_tokens = None, 0
    return CacheReport(
        read_tokens=usage.cache_read,
        written_tokens=usage.cache_write,
        uncached_tokens=max(usage.request_tokens - usage.cached_tokens, 0),
        expected_tokens=expected_tokens,
        miss_cause=cause,
    )


def _cached_before(previous: SentRequest | None, cache: PromptCache | None) -> int:
    """Return the number of tokens of the previous request that its provider has cached, as far as is known."""
    if previous is None or not previous.tools_digest:
        return 0
    if cache is None or cache.max_marks:
        # Only the part up to a mark is cached, and the provider reports its size.
        return previous.cached_tokens
    return previous.input_tokens if previous.input_tokens >= cache.min_tokens_for(previous.model) else 0


def _find_cause(previous: SentRequest, request: SentRequest, digests: RequestDigests, sent_at: int) -> CacheMissCause:
    """Return why the cache cannot have matched. Checked first, because a compaction also changes messages and the
    offered tools.
    """
    if request.model != previous.model:
        return "model"
    if previous.is_expired(sent_at):
        return "expiry"
    if request.fold_count != previous.fold_count:
        return "compaction"
    if request.tools_digest != previous.tools_digest:
        return "tools"
    if request.system_digest != previous.system_digest:
        return "system_prompt"
    if request.options_digest != previous.options_digest:
        return "options"
    kept = digests.messages[previous.message_count - 1 : previous.message_count]
    return "eviction" if kept == (previous.messages_digest,) else "history"
