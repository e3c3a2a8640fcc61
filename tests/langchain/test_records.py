from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_mnesis.messages.convert import from_record, to_record
from mnesis.models.message import (
    DataPart,
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
)
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import decode_message, encode_message
from tests.support.langchain_fakes import texts_of
from tests.support.langchain_messages import SHAPES
from tests.support.stored import stored_at_first

CALL = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "remove"])
def test_every_shape_goes_through_the_log_and_comes_back_equal(name: str) -> None:
    message = SHAPES[name]
    record = to_record(message, id="m")
    stored = decode_message("s", 1, stored_at_first(record))
    assert from_record(stored) == [message]
    assert type(from_record(stored)[0]) is type(message)


@pytest.mark.parametrize(
    ("message", "role", "parts"),
    [
        (HumanMessage("hi"), "user", [TextPart(text="hi")]),
        (HumanMessage(""), "user", []),
        (SystemMessage("rules"), "system", [TextPart(text="rules")]),
        (ChatMessage("a", role="assistant"), "assistant", [TextPart(text="a")]),
        (ChatMessage("a", role="critic"), "user", [TextPart(text="a")]),
        (
            AIMessage("on it", tool_calls=[CALL]),
            "assistant",
            [TextPart(text="on it"), ToolPart(tool_name="search", tool_call_id="c1", input={"q": "x"})],
        ),
        (
            AIMessage("", invalid_tool_calls=[{"name": "f", "args": "{", "id": "c", "error": None}]),
            "assistant",
            [ToolPart(tool_name="f", tool_call_id="c", raw_input="{")],
        ),
        (
            ToolMessage("no", tool_call_id="c1", name="search", status="error"),
            "tool",
            [ToolResultPart(tool_call_id="c1", tool_name="search", output="no", is_error=True)],
        ),
        (FunctionMessage("42", name="add"), "tool", [ToolResultPart(tool_call_id="", tool_name="add", output="42")]),
        (
            HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]),
            "user",
            [ImagePart(url="https://example.com/a.png")],
        ),
        (
            HumanMessage([{"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}}]),
            "user",
            [ImagePart(data="AA==", media_type="image/jpeg")],
        ),
        (
            HumanMessage([{"type": "file", "base64": "AA==", "mime_type": "application/pdf", "filename": "a.pdf"}]),
            "user",
            [FilePart(name="a.pdf", data="AA==", media_type="application/pdf")],
        ),
        (
            HumanMessage([{"type": "audio", "url": "https://example.com/a.mp3"}]),
            "user",
            [DataPart(kind="audio", data={"type": "audio", "url": "https://example.com/a.mp3"}, text="[audio]")],
        ),
        (
            AIMessage([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}]),
            "assistant",
            [
                ReasoningPart(text="hm", provider={"type": "thinking", "thinking": "hm", "signature": "s"}),
                TextPart(text="a"),
            ],
        ),
    ],
)
def test_messages_are_readable_through_the_other_apis(message: BaseMessage, role: str, parts: list[Any]) -> None:
    record = to_record(message)
    assert record.role == role
    assert list(record.parts) == parts


def test_a_text_is_stored_once() -> None:
    text = "a text that should not take twice its room " * 50
    for message in (HumanMessage(text), AIMessage(text), ToolMessage(text, tool_call_id="c")):
        stored = encode_message(to_record(message))
        assert len(stored.parts) + len(stored.meta or b"") < len(text) * 1.2


def test_usage_counts_cached_tokens_beside_the_input() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 5,
        "total_tokens": 105,
        "input_token_details": {"cache_read": 60, "cache_creation": 10},
    }
    record = to_record(
        AIMessage("a", usage_metadata=usage, response_metadata={"model_name": "m", "finish_reason": "stop"})
    )
    assert record.tokens == TokenUsage(input=30, output=5, cache_read=60, cache_write=10, total=105)
    assert (record.model_id, record.finish_reason) == ("m", "stop")


def test_a_pruned_output_is_shown_as_its_marker_and_keeps_its_pair() -> None:
    record = to_record(ToolMessage("long output", tool_call_id="c1", id="t1", name="search", artifact=[1]))
    part = record.parts[0].model_copy(update={"output": "[left out]"})
    [shown] = from_record(record.model_copy(update={"parts": (part,)}))
    assert shown == ToolMessage("[left out]", tool_call_id="c1", id="t1", name="search", artifact=[1])


def test_a_shortened_message_of_blocks_is_shown_shortened() -> None:
    record = to_record(HumanMessage([{"type": "text", "text": "very long"}], id="h1", name="ada"))
    [shown] = from_record(record.model_copy(update={"parts": (TextPart(text="very […]"),)}))
    assert (shown.content, shown.id, shown.name) == ("very […]", "h1", "ada")


def test_an_orphaned_result_shown_as_text_is_a_message_of_the_user() -> None:
    record = to_record(ToolMessage("42", tool_call_id="gone"))
    [shown] = from_record(record.model_copy(update={"role": "user", "parts": (TextPart(text="[Result] 42"),)}))
    assert shown == HumanMessage("[Result] 42")


def test_native_messages_become_langchain_messages() -> None:
    record = Message(
        id="n1",
        role="assistant",
        parts=(
            TextPart(text="let me see"),
            ToolPart(
                tool_name="f", tool_call_id="c", input={"a": 1}, output="done", status=ToolStatus(state="completed")
            ),
        ),
        tokens=TokenUsage(input=3, output=4),
    )
    call, result = from_record(record)
    assert isinstance(call, AIMessage)
    assert (call.id, call.content, call.tool_calls[0]["args"]) == ("n1", "let me see", {"a": 1})
    assert call.usage_metadata is not None
    assert call.usage_metadata["input_tokens"] == 3
    assert isinstance(result, ToolMessage)
    assert (result.tool_call_id, result.content, result.id) == ("c", "done", "n1_1")


def test_a_summary_is_marked_the_way_langchain_marks_them() -> None:
    record = Message(id="sum_1", role="user", parts=(TextPart(text="earlier"),), is_summary=True)
    [shown] = from_record(record)
    assert shown == HumanMessage("earlier", id="sum_1", additional_kwargs={"lc_source": "summarization"})


def test_what_a_newer_version_stored_is_shown_as_far_as_it_can_be_read() -> None:
    record = to_record(HumanMessage("hello", mood="calm"))
    for data in ({"v": 2, "something": "new"}, {"v": 1, "t": "hologram", "f": {}}, "not even a dict"):
        shown = from_record(record.model_copy(update={"extra": {"langchain": data}}))
        assert texts_of(shown) == ["hello"]
