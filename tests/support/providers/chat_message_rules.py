"""Rules of chat completions on the fields, the content and the names of messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.providers.chat_subject import (
    MISTRAL_VALIDATOR,
    NAME,
    OPENAI,
    OPENAI_REASONING,
    OPENAI_TYPES,
    Subject,
    describe_bad_name,
)
from tests.support.providers.strict_server import RuleBook, blocks_of, dump

BOOK = RuleBook()
rule = BOOK.rule

COMMON_FIELDS = {"role", "content", "name"}
MESSAGE_FIELDS = {
    "assistant": COMMON_FIELDS | {"audio", "function_call", "refusal", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
MISTRAL_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
CALL_FIELDS, FUNCTION_FIELDS = {"id", "type", "function", "custom"}, {"name", "arguments"}
MISTRAL_CALL_FIELDS = {"id", "type", "function", "index"}


@rule(
    "unknown-message-field",
    f"{OPENAI_TYPES}; songquanpeng/one-api#1319; QwenLM/qwen-code#3304",
    flavours=OPENAI,
)
def _unknown_message_field(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        allowed = MESSAGE_FIELDS.get(str(message.get("role")), COMMON_FIELDS)
        yield from (f"Unknown parameter: 'messages[{index}].{name}'." for name in message if name not in allowed)
    for index, position, call in subject.calls():
        place = f"messages[{index}].tool_calls[{position}]"
        yield from (f"Unknown parameter: '{place}.{name}'." for name in call if name not in CALL_FIELDS)
        inner = call.get("function") or {}
        yield from (f"Unknown parameter: '{place}.function.{name}'." for name in inner if name not in FUNCTION_FIELDS)


@rule(
    "extra-forbidden",
    "BerriAI/litellm#30835; charmbracelet/crush#1590; zeroclaw-labs/zeroclaw#2693",
    flavours=["mistral"],
    status=422,
)
def _extra_forbidden(subject: Subject) -> Iterator[str]:
    if "max_completion_tokens" in subject.body:  # editor-code-assistant/eca#231
        yield _forbidden("max_completion_tokens")
    for index, message in enumerate(subject.messages):
        role = str(message.get("role"))
        for name in set(message) - MISTRAL_FIELDS.get(role, set(message)):
            yield _forbidden("messages", index, role, name)
    for index, position, call in subject.calls():
        for name in set(call) - MISTRAL_CALL_FIELDS:
            yield _forbidden("messages", index, "assistant", "tool_calls", position, name)
        for name in set(call.get("function") or {}) - FUNCTION_FIELDS:
            yield _forbidden("messages", index, "assistant", "tool_calls", position, "function", name)


def _forbidden(*place: Any) -> str:
    return dump({"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted"})


# Public code quotes "Unknown parameter: 'messages[0].content[0].cache_control'" for GPT-5 models; GPT-4o ignores the field.
@rule("cache-control", f"{OPENAI_TYPES}; quoted by public clients for GPT-5 models", flavours=OPENAI)
def _cache_control(subject: Subject) -> Iterator[str]:
    if not OPENAI_REASONING.match(subject.request.model) and not subject.is_strict_about_cache_control:
        return
    for index, message in enumerate(subject.messages):
        for position, block in enumerate(blocks_of(message.get("content"))):
            if "cache_control" in block:
                yield f"Unknown parameter: 'messages[{index}].content[{position}].cache_control'."


@rule("content-null", "langchain-ai/langchainjs#4153; songquanpeng/one-api#784", flavours=OPENAI)
def _content_null(subject: Subject) -> Iterator[str]:
    for message in subject.messages:
        has_call = message.get("tool_calls") or message.get("function_call")
        if message.get("content") is None and not (message.get("role") == "assistant" and has_call):
            yield "Invalid value for 'content': expected a string, got null."


@rule(
    "content-missing",
    "langchain-ai/langchain#34140; charmbracelet/crush#964; AstrBotDevs/AstrBot#6447",
    flavours=["xai"],
)
def _content_missing(subject: Subject) -> Iterator[str]:
    if any(message.get("content") in (None, []) for message in subject.messages):
        yield "Invalid request content: Each message must have at least one content element."


@rule(
    "assistant-empty",
    "labring/FastGPT#3575; MoonshotAI/kimi-code#1985; AstrBotDevs/AstrBot#7202",
    flavours=["moonshot"],
)
def _assistant_empty(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if message.get("role") == "assistant" and not message.get("content") and not message.get("tool_calls"):
            yield f"Invalid request: the message at position {index} with role 'assistant' must not be empty"


@rule("mistral-assistant-empty", MISTRAL_VALIDATOR, flavours=["mistral"])
def _mistral_assistant_empty(subject: Subject) -> Iterator[str]:
    for message in subject.messages:
        if message.get("role") == "assistant" and not message.get("content") and not message.get("tool_calls"):
            yield "Assistant message must have either content or tool_calls, but not none."


@rule("content-string", "BerriAI/litellm#11273", flavours=["ollama"])
def _content_string(subject: Subject) -> Iterator[str]:
    if any(isinstance(message.get("content"), list) for message in subject.messages):
        yield "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"


@rule("text-only", "chatboxai/chatbox#1740; esengine/DeepSeek-Reasonix#7859", flavours=["deepseek"])
def _text_only(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if any(block.get("type") != "text" for block in blocks_of(message.get("content"))):
            yield (
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{index}]: unknown variant `image_url`, expected `text`"
            )


@rule("name-pattern", "crazyyanchao/llmcompiler#1", flavours=OPENAI)
def _name_pattern(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if "name" in message and not NAME.fullmatch(str(message["name"])):
            yield describe_bad_name(f"messages[{index}].name")
