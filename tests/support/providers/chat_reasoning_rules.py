"""Rules of chat completions on reasoning that a later request must send back."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.providers.chat_subject import DEEPSEEK_THINKING, Subject
from tests.support.providers.strict_server import RuleBook, dump

BOOK = RuleBook()
rule = BOOK.rule


@rule(
    "reasoning-missing",
    f"{DEEPSEEK_THINKING}; continuedev/continue#10193; zeroclaw-labs/zeroclaw#5600; litellm llms/moonshot/chat/transformation.py",
    flavours=["deepseek", "moonshot"],
)
def _reasoning_missing(subject: Subject) -> Iterator[str]:
    if not subject.thinks:
        return
    for index, message in enumerate(subject.messages):
        if message.get("tool_calls") and not isinstance(message.get("reasoning_content"), str):
            if subject.flavour == "moonshot":
                yield f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {index}"
            yield "The `reasoning_content` in the thinking mode must be passed back to the API."


@rule(
    "reasoning-details-changed",
    "openrouter.ai/docs, reasoning tokens, preserving reasoning blocks",
    flavours=["openrouter"],
)
def _reasoning_details_changed(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        details = message.get("reasoning_details")
        if details and dump(details) not in subject.issued_details:
            yield f"messages.{index}: reasoning_details do not match the model's original output"


# "Some upstreams 400 without echoed reasoning": true of Gemini behind OpenRouter, not of every model.
@rule("reasoning-details-missing", "RooCodeInc/Roo-Code#9506", flavours=["openrouter"], is_default=False)
def _reasoning_details_missing(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        ids = {str(call.get("id")) for call in message.get("tool_calls") or []}
        if ids & subject.calls_with_details and not message.get("reasoning_details"):
            yield f"messages.{index}: reasoning_details are missing"
