"""Rules of chat completions on tool definitions and on the parameters of a request."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.providers.chat_subject import (
    MISTRAL_VALIDATOR,
    NAME,
    OPENAI,
    OPENAI_REASONING,
    Subject,
    describe_bad_name,
)
from tests.support.providers.strict_server import RuleBook

BOOK = RuleBook()
rule = BOOK.rule


@rule(
    "tool-name-pattern",
    f"hackers365/xiaozhi-esp32-server-golang#268; openai-python, types/shared_params; {MISTRAL_VALIDATOR}",
    flavours=[*OPENAI, "mistral"],
)
def _tool_name_pattern(subject: Subject) -> Iterator[str]:
    for index, tool in enumerate(subject.body.get("tools") or []):
        if not NAME.fullmatch(str((tool.get("function") or {}).get("name", ""))):
            yield describe_bad_name(f"tools[{index}].function.name")


@rule(
    "tool-schema", "spring-projects/spring-ai#4776; tailcallhq/forgecode#1359; github/copilot-cli#2223", flavours=OPENAI
)
def _tool_schema(subject: Subject) -> Iterator[str]:
    for tool in subject.body.get("tools") or []:
        function = tool.get("function") or {}
        schema = function.get("parameters")
        if schema and schema.get("type") == "object" and "properties" not in schema:
            yield f"Invalid schema for function '{function.get('name')}': In context=(), object schema missing properties."


@rule("tools-empty", "QwenLM/qwen-code#643 (another provider)", is_default=False)
def _tools_empty(subject: Subject) -> Iterator[str]:
    if subject.body.get("tools") == []:
        yield "[] is too short - 'tools'"


@rule("max-tokens", "decolua/9router#560", flavours=OPENAI)
def _max_tokens(subject: Subject) -> Iterator[str]:
    if OPENAI_REASONING.match(subject.request.model) and "max_tokens" in subject.body:
        yield (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )


@rule("temperature", "gabrii/Cursor-Azure-GPT-5#33; OpenHands/OpenHands#4131", flavours=OPENAI)
def _temperature(subject: Subject) -> Iterator[str]:
    value = subject.body.get("temperature", 1)
    if OPENAI_REASONING.match(subject.request.model) and value != 1:
        yield (
            f"Unsupported value: 'temperature' does not support {value} with this model. Only the default (1) value is "
            "supported."
        )
