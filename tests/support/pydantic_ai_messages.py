"""Messages of Pydantic AI with every kind of part, and checks of a history."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
EVERY_PART: list[ModelMessage] = [
    ModelRequest(
        parts=[
            SystemPromptPart("rules", timestamp=NOW, dynamic_ref="f"),
            UserPromptPart(
                ["what is this?", ImageUrl("https://x.test/a.png"), BinaryContent(b"\x89PNG", media_type="image/png")],
                timestamp=NOW,
            ),
        ],
        instructions="Be brief.",
        run_id="r1",
        metadata={"trace": 1},
    ),
    ModelResponse(
        parts=[
            ThinkingPart("hm", signature="sig", id="t1", provider_name="anthropic"),
            TextPart("let me look", id="m1"),
            ToolCallPart("look", {"q": "ü\U0001f600"}, tool_call_id="c1"),
            ToolCallPart("look", '{"q": "b"}', tool_call_id="c2"),
            ToolCallPart("look", "not json", tool_call_id="c3"),
        ],
        usage=RequestUsage(input_tokens=90, cache_read_tokens=40, output_tokens=7, details={"reasoning_tokens": 3}),
        model_name="m",
        timestamp=NOW,
        provider_details={"logprobs": [1.5]},
        finish_reason="tool_call",
    ),
    ModelRequest(
        parts=[
            ToolReturnPart("look", {"found": [1, None]}, tool_call_id="c2", timestamp=NOW, metadata={"k": "v"}),
            RetryPromptPart("arguments are not JSON", tool_name="look", tool_call_id="c3", timestamp=NOW),
            ToolReturnPart("look", "plain", tool_call_id="c1", timestamp=NOW),
            UserPromptPart("and now?", timestamp=NOW),
        ]
    ),
    ModelResponse(parts=[TextPart("done")], timestamp=NOW),
    ModelRequest(parts=[RetryPromptPart("no such output", timestamp=NOW)]),
    ModelResponse(parts=[], timestamp=NOW),
    ModelRequest(parts=[]),
]


def plain(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Return the messages as Pydantic AI's own type adapter gives them back: the measure of exactness."""
    return ModelMessagesTypeAdapter.validate_python(ModelMessagesTypeAdapter.dump_python(messages, mode="json"))


def tool_calls_have_results(messages: list[ModelMessage]) -> bool:
    """Return whether every call is answered in the next message, and every result has a call."""
    waiting: set[str] = set()
    for message in messages:
        if isinstance(message, ModelResponse):
            if waiting:
                return False
            waiting = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
        else:
            found = {part.tool_call_id for part in message.parts if isinstance(part, ToolReturnPart)}
            if not found <= waiting:
                return False
            waiting -= found
    return not waiting
