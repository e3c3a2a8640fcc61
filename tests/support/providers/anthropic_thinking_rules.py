"""Rules of the Messages API on thinking, and on what some models do not support."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.support.providers.anthropic_subject import ERROR_GUIDE, THINKING_TYPES, Subject, open_loop_start
from tests.support.providers.strict_server import RuleBook

BOOK = RuleBook()
rule = BOOK.rule

# ERROR_GUIDE, "Model-specific 400s".
WITHOUT_SAMPLING = re.compile(r"opus-5|fable-5|opus-4-[78]")
# ericc-ch/copilot-api#261 and cortexkit/magic-context#511 name these models.
WITHOUT_PREFILL = re.compile(r"opus-4-[678]|opus-5|sonnet-4-6|sonnet-5|fable")


@rule("thinking-signature", "anthropics/anthropic-sdk-python#1598; ding113/claude-code-hub#518")
def _thinking_signature(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") != "thinking":
            continue
        if not isinstance(block.get("signature"), str):
            yield f"{place}.thinking.signature.str: Input should be a valid string"
        elif not subject.server.has_signed(str(block.get("thinking")), block["signature"]):
            yield f"{place}: Invalid `signature` in `thinking` block"


# The documentation also says that the API may switch thinking off for the request instead; disable the rule for that.
@rule("thinking-first", "anthropics/claude-code#20692; anthropics/claude-code#20727; kaitranntt/ccs#113")
def _thinking_first(subject: Subject) -> Iterator[str]:
    index = open_loop_start(subject.turns)
    if subject.thinking != "enabled" or index is None:
        return
    kind = subject.turns[index][1][0].get("type")
    if kind not in THINKING_TYPES:
        yield (
            f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost "
            "set of `tool_use` and `tool_result` blocks)."
        )


@rule("thinking-order", "anthropics/claude-code#20698")
def _thinking_order(subject: Subject) -> Iterator[str]:
    if subject.thinking != "enabled":
        return
    for index, (role, blocks) in enumerate(subject.turns):
        kinds = [block.get("type") for block in blocks]
        if role == "assistant" and set(kinds) & set(THINKING_TYPES) and kinds[0] not in THINKING_TYPES:
            yield (
                f"messages.{index}.content.0: If an assistant message contains any thinking blocks, the first block must be "
                f"`thinking` or `redacted_thinking`. Found `{kinds[0]}`."
            )


@rule("thinking-budget", f"{ERROR_GUIDE}; themaximalist/llm.js#30")
def _thinking_budget(subject: Subject) -> Iterator[str]:
    if subject.thinking != "enabled":
        return
    budget = int(subject.body["thinking"].get("budget_tokens", 0))
    if budget < 1024:
        yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    # With interleaved thinking the budget spans several requests and may exceed max_tokens (Claude docs).
    if budget >= int(subject.body.get("max_tokens", 0)) and "interleaved-thinking" not in subject.betas:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."


@rule("thinking-temperature", "MartialBE/one-hub#529")
def _thinking_temperature(subject: Subject) -> Iterator[str]:
    if subject.thinking in ("enabled", "adaptive") and subject.body.get("temperature", 1) != 1:
        yield "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."


@rule("thinking-tool-choice", "Claude docs, extended thinking: tool_choice may only be auto or none", is_default=False)
def _thinking_tool_choice(subject: Subject) -> Iterator[str]:
    kind = (subject.body.get("tool_choice") or {}).get("type", "auto")
    if subject.thinking in ("enabled", "adaptive") and kind not in ("auto", "none"):
        yield "Thinking may not be enabled when tool_choice forces tool use."


@rule("model-parameters", ERROR_GUIDE)
def _model_parameters(subject: Subject) -> Iterator[str]:
    if not WITHOUT_SAMPLING.search(subject.request.model):
        return
    for name in ("temperature", "top_p", "top_k"):
        if name in subject.body:
            yield f"{name}: this parameter is not supported on this model"
    if subject.thinking == "enabled":
        yield "thinking: type 'enabled' is not supported on this model; use 'adaptive'"


@rule("prefill", "ericc-ch/copilot-api#261; cortexkit/magic-context#511")
def _prefill(subject: Subject) -> Iterator[str]:
    if subject.turns and subject.turns[-1][0] == "assistant" and WITHOUT_PREFILL.search(subject.request.model):
        yield "This model does not support assistant message prefill. The conversation must end with a user message."
