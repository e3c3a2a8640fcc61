"""What to remember of requests that the caller of mnesis sent, with a client of their own."""

from __future__ import annotations

from collections.abc import Sequence

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

    Without `usage`, nothing is known of the request but that it was answered about now.
    """
    if usage is not None:
        return UsageReport(usage, "inferred", request=note_own_request(core, usage, model))
    if not any(message.role == "assistant" for message in messages):
        return None
    return UsageReport(TokenUsage(), "estimate", request=note_own_request(core, TokenUsage(), model))


def note_own_request(core: SessionCore, usage: TokenUsage, model: str | None = None) -> SentRequest:
    """Return what to remember of a request that the caller of mnesis sent, about now. Its content is not known.

    `model` is the model string of the caller's client. None means the session's model."""
    if model is None:
        called = core.called_model()
        dialect = find_dialect(called, core.model.dialect)
    else:
        called, dialect = model, match_dialect(model) or PLAIN
    target = Target(called, dialect, is_own_client=True)
    return SentRequest(
        model or core.record.model,
        core.now_ms(),
        target.cache_lifetime_seconds,
        usage.request_tokens,
        usage.cached_tokens,
    )
