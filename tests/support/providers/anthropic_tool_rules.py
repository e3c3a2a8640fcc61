"""Rules of the Messages API on tool calls and their results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from tests.support.providers.anthropic_subject import Subject, block_ids
from tests.support.providers.strict_server import RuleBook

BOOK = RuleBook()
rule = BOOK.rule


@rule("tool-result-missing", "anthropics/claude-code#5989")
def _tool_result_missing(subject: Subject) -> Iterator[str]:
    for index, (role, blocks) in enumerate(subject.turns):
        following = subject.turns[index + 1][1] if index + 1 < len(subject.turns) else []
        result_ids = block_ids(following, "tool_result", "tool_use_id")
        open_ids = [call for call in block_ids(blocks, "tool_use", "id") if call not in result_ids]
        if role == "assistant" and open_ids:
            yield (
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(open_ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
                "message."
            )


@rule("tool-result-unexpected", "router-for-me/CLIProxyAPI#497; decocms/studio#1803")
def _tool_result_unexpected(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.turns):
        call_ids = block_ids(subject.turns[index - 1][1], "tool_use", "id") if index else []
        for position, block in enumerate(blocks):
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in call_ids:
                yield (
                    f"messages.{index}.content.{position}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block.get('tool_use_id')}. Each `tool_result` block must have a corresponding `tool_use` block in the "
                    "previous message."
                )


@rule("tool-result-first", "Ironclad/rivet#487; anthropics/anthropic-sdk-typescript#653")
def _tool_result_first(subject: Subject) -> Iterator[str]:
    for index, (role, blocks) in enumerate(subject.turns):
        kinds = [block.get("type") == "tool_result" for block in blocks]
        if role == "user" and any(later and not earlier for earlier, later in pairwise(kinds)):
            yield (
                f"messages.{index}: Did not find {sum(kinds)} `tool_result` block(s) at the beginning of this message. "
                "Messages following `tool_use` blocks must begin with a matching number of `tool_result` blocks."
            )


@rule("tool-result-duplicate", "vectorize-io/hindsight#4250")
def _tool_result_duplicate(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.turns):
        result_ids = block_ids(blocks, "tool_result", "tool_use_id")
        if doubles := sorted({call for call in result_ids if result_ids.count(call) > 1}):
            yield (
                f"messages.{index}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                f"{doubles[0]}"
            )


@rule("tool-use-duplicate", "NachoSEO/claudegram#12; BerriAI/litellm#23510")
def _tool_use_duplicate(subject: Subject) -> Iterator[str]:
    seen_ids: set[str] = set()
    for place, _, block in subject.blocks():
        if block.get("type") == "tool_use":
            if block.get("id") in seen_ids:
                yield f"{place}: `tool_use` ids must be unique"
            seen_ids.add(str(block.get("id")))


@rule("tool-use-id", "BlockRunAI/ClawRouter#17; farion1231/cc-switch#1181")
def _tool_use_id(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", str(block.get("id", ""))):
            yield f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"


# Anthropic's own endpoint required this in 2024; vercel/ai#16991 recorded a live Claude Sonnet 4.6 that accepts it.
@rule("tools-missing", "anthropics/anthropic-sdk-python#494", is_default=False)
def _tools_missing(subject: Subject) -> Iterator[str]:
    if not subject.body.get("tools") and any(
        b.get("type") in ("tool_use", "tool_result") for _, _, b in subject.blocks()
    ):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools."
