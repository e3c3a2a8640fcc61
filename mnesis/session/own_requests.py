"""The facts to store about requests that the caller sent with its own client."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from mnesis.formats.request import Target
from mnesis.models.dialects import PLAIN, find_dialect, match_dialect
from mnesis.models.message import Message
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.session.core import SessionCore


def report_own_request(
    core: SessionCore, messages: Sequence[Message], usage: TokenUsage | None = None, model: str | None = None
) -> UsageReport | None:
    """Return the report of messages that the caller's own client exchanged. None if no model answered.

    Without `usage`, only the time of the answer is known, which is about now.
    """
    if usage is not None:
        return UsageReport(usage, "inferred", request=note_own_request(core, usage, model))
    if not any(message.role == "assistant" for message in messages):
        return None
    return UsageReport(TokenUsage(), "estimate", request=note_own_request(core, TokenUsage(), model))


def note_own_request(core: SessionCore, usage: TokenUsage, model: str | None = None) -> SentRequest:
    """Return the facts to store about a request that the caller has just sent. Its content is not known.

    `model` is the model string of the caller's client. None means the session's model.
    """
    lifetime_seconds = (
        _cache_lifetime(core.called_model(), core.model.dialect) if model is None else _cache_lifetime(model)
    )
    return SentRequest(
        model or core.record.model,
        core.now_ms(),
        lifetime_seconds,
        usage.request_tokens,
        usage.cached_tokens,
    )


@lru_cache(maxsize=1_000)
def _cache_lifetime(model: str, dialect_name: str | None = "") -> float | None:
    """Return the longest lifetime of a model's cache, in seconds, for the user's own client. None if it has none.

    `dialect_name` is the dialect of the session's model; "" finds the dialect of the model string alone.
    """
    dialect = (match_dialect(model) or PLAIN) if dialect_name == "" else find_dialect(model, dialect_name)
    return Target(model, dialect, is_own_client=True).cache_lifetime_seconds
