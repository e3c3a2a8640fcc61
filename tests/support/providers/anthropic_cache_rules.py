"""Rules of the Messages API on cache marks: how many, where, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.providers.anthropic_subject import CACHE_GUIDE, THINKING_TYPES, Subject
from tests.support.providers.strict_server import RuleBook, blocks_of

BOOK = RuleBook()
rule = BOOK.rule

MAX_MARKS = 4


@rule("cache-marks-max", "litellm integrations/anthropic_cache_control_hook.py; griffinmartin/opencode-claude-auth#121")
def _cache_marks_max(subject: Subject) -> Iterator[str]:
    if (count := len(subject.marks())) > MAX_MARKS:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {count}."


@rule("cache-mark-on-thinking", "Wei-Shaw/sub2api#225; LeenHawk/gproxy#67; BerriAI/litellm#39815")
def _cache_mark_on_thinking(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") in THINKING_TYPES and "cache_control" in block:
            yield f"{place}.{block['type']}.cache_control: Extra inputs are not permitted"


@rule("cache-mark-on-empty-text", "anthropics/claude-code#50082")
def _cache_mark_on_empty_text(subject: Subject) -> Iterator[str]:
    for place, block in subject.marked():
        if block.get("type") == "text" and not block.get("text") and block.get("cache_control"):
            yield f"{place}.text: cache_control cannot be set for empty text blocks"


@rule("cache-mark-nested", "caozhiyuan/copilot-api#241")
def _cache_mark_nested(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") != "tool_result":
            continue
        for index, inner in enumerate(blocks_of(block.get("content"))):
            if inner.get("cache_control"):
                yield (
                    f"{place}.tool_result.content.{index}.cache_control: cache_control may not be specified within "
                    "`tool_result.content`. Instead, place it directly on `tool_result`"
                )


@rule("cache-ttl-order", "cnighswonger/claude-code-cache-fix#44; vellum-ai/vellum-assistant#22191")
def _cache_ttl_order(subject: Subject) -> Iterator[str]:
    is_short = False
    for place, mark in subject.marks():
        if mark.get("ttl") == "1h" and is_short:
            yield (
                f"{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
                "block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        is_short = is_short or mark.get("ttl", "5m") == "5m"


@rule("cache-automatic", CACHE_GUIDE)
def _cache_automatic(subject: Subject) -> Iterator[str]:
    if not (automatic := subject.body.get("cache_control")):
        return
    if len(subject.marks()) >= MAX_MARKS:
        yield "cache_control: all 4 cache_control blocks are already in use"
    last = list(subject.marked())[-1][1].get("cache_control")
    if last and last.get("ttl", "5m") != automatic.get("ttl", "5m"):
        yield "cache_control: the last block has a cache_control with a different ttl"
