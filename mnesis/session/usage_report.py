"""The usage and cost of a model call, and the size of the context that follows from its report. Pure functions, no
I/O.
"""

from __future__ import annotations

from mnesis.llm.base import LLMReply
from mnesis.models.context import Window
from mnesis.models.dialects import Dialect, Reasoning
from mnesis.models.session import UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.tokens.estimator import TokenCounter


def report_usage(window: Window, reply: LLMReply, count: TokenCounter, dialect: Dialect) -> UsageReport:
    """Return the report of one call: the provider's, or mnesis's own count if there is none."""
    usage = reply.usage
    is_reported = usage is not None and usage.effective_total() > 0
    if usage is None or not is_reported:
        usage = TokenUsage(input=window.tokens, output=count(reply.text + reply.reasoning))
    return UsageReport(
        usage,
        "request" if is_reported else "estimate",
        reply.cost,
        request_estimate=window.tokens,
        reserved_tokens=window.reserved_tokens,
        discarded_output_tokens=_discarded_tokens(usage, reply, count, dialect),
        fold_count=window.session.fold_count if window.session else None,
    )


def _discarded_tokens(usage: TokenUsage, reply: LLMReply, count: TokenCounter, dialect: Dialect) -> int:
    """Return the tokens of reasoning in the output that later requests do not contain. The dialect defines which
    reasoning goes back. Some providers return the reasoning without reporting its size; then it is counted.
    """
    if _goes_back(reply, dialect.reasoning):
        return 0
    return min(usage.reasoning or (count(reply.reasoning) if reply.reasoning else 0), usage.output)


def _goes_back(reply: LLMReply, rule: Reasoning | None) -> bool:
    if rule is None:
        return False
    if rule.kinds:
        return any(block.get("type") in rule.kinds for block in reply.reasoning_blocks)
    return bool(reply.reasoning) and (bool(reply.tool_calls) or not rule.calls_only)
