"""LangChain messages of every class and form."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from pydantic import BaseModel


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Weather(BaseModel):
    city: str
    degrees: float = 0.0


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


class OwnMessage(HumanMessage):
    mood: str = "calm"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def without_tool_calls(message: AIMessage) -> AIMessage:
    message.tool_calls = []
    return message


CALL = {"name": "search", "args": {"q": "x", "n": 1}, "id": "c1", "type": "tool_call"}
USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "total_tokens": 15,
    "input_token_details": {"cache_read": 4, "cache_creation": 1, "audio": 0},
    "output_token_details": {"reasoning": 2},
}
SHAPES: dict[str, BaseMessage] = {
    "human": HumanMessage("hello"),
    "empty": HumanMessage(""),
    "id": HumanMessage("hello", id="m1"),
    "empty id": HumanMessage("hello", id=""),
    "name": HumanMessage("hello", name="ada"),
    "extra field": HumanMessage("hello", mood="calm", rank=3),
    "extra field with a reserved name": HumanMessage("hello", cls=1, _fields_set=2),
    "additional kwargs": HumanMessage("hello", additional_kwargs={"a": {"b": [1, None, True]}}),
    "keys that are no strings": HumanMessage("hello", additional_kwargs={1: "a", (2, 3): "b", None: "c"}),
    "a key that looks like a tag": HumanMessage("hello", additional_kwargs={"$mn": "bytes", "v": "AA=="}),
    "unicode": HumanMessage("żółć 🐘 \u2028 \0"),
    "lone surrogate": HumanMessage("a\ud800b"),
    "surrogate in a block": HumanMessage([{"type": "text", "text": "\udfff"}]),
    "mixed content": HumanMessage(["a", {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]),
    "image": HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}]),
    "v1 image": HumanMessage([{"type": "image", "base64": "AA==", "mime_type": "image/png"}]),
    "v1 audio": HumanMessage([{"type": "audio", "url": "https://example.com/a.mp3"}]),
    "v1 file": HumanMessage([{"type": "file", "file_id": "f1"}]),
    "plain text block": HumanMessage([{"type": "text-plain", "text": "a", "mime_type": "text/plain"}]),
    "non standard block": HumanMessage([{"type": "non_standard", "value": {"x": {1, 2}}}]),
    "bytes in content": AIMessage([{"type": "redacted_thinking", "data": b"\0\xff"}]),
    "system": SystemMessage("rules"),
    "system blocks": SystemMessage([{"type": "text", "text": "rules"}]),
    "chat": ChatMessage("hello", role="critic"),
    "function": FunctionMessage("42", name="add"),
    "remove": RemoveMessage(id="m1"),
    "ai": AIMessage("hello"),
    "ai with usage": AIMessage("hello", usage_metadata=USAGE, response_metadata={"model_name": "m", "stop": None}),
    "tool calls": AIMessage("", tool_calls=[CALL, {**CALL, "id": None}]),
    "tool calls with extras": AIMessage("").model_copy(update={"tool_calls": [{**CALL, "extras": {"s": 1}}]}),
    "invalid tool calls": AIMessage(
        "", invalid_tool_calls=[{"name": "f", "args": "{", "id": "c", "error": "bad", "type": "invalid_tool_call"}]
    ),
    "cleared tool calls": without_tool_calls(
        AIMessage(
            "",
            additional_kwargs={
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
            },
        )
    ),
    "thinking": AIMessage([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}]),
    "reasoning v1": AIMessage([{"type": "reasoning", "reasoning": "hm", "extras": {"signature": "s"}}]),
    "server tool": AIMessage([{"type": "server_tool_call", "name": "web", "args": {}, "id": "s1"}]),
    "parsed": AIMessage("x", additional_kwargs={"at": datetime(2026, 1, 2, 3, tzinfo=UTC)}),
    "not a number": AIMessage("x", response_metadata={"logprobs": [-math.inf, math.inf, -0.0]}),
    "tool": ToolMessage("42", tool_call_id="c1"),
    "tool error": ToolMessage("boom", tool_call_id="c1", status="error", name="search"),
    "tool blocks": ToolMessage([{"type": "text", "text": "a"}, "b"], tool_call_id="c1"),
    "tool content that is a tuple": ToolMessage("x", tool_call_id="c").model_copy(update={"content": [("a", 1)]}),
    "artifact": ToolMessage(
        "x", tool_call_id="c", artifact={"rows": [(1, b"\1")], "ids": {1, 2}, "f": frozenset("ab")}
    ),
    "artifact of messages": ToolMessage("x", tool_call_id="c", artifact=[AIMessage("a"), HumanMessage("b", id="x")]),
    "artifact of documents": ToolMessage("x", tool_call_id="c", artifact=[Document("text", metadata={"p": 1}, id="d")]),
    "artifact of times": ToolMessage(
        "x",
        tool_call_id="c",
        artifact=[date(2026, 1, 2), time(1, 2, 3, 4), timedelta(-1, 2, 3), datetime(1, 1, 1, tzinfo=timezone.min)],
    ),
    "artifact of numbers": ToolMessage(
        "x", tool_call_id="c", artifact=[Decimal("1.10"), 2**70, -(2**64), 1 + 2j, 10**5000]
    ),
    "artifact that is a uuid": ToolMessage("x", tool_call_id="c", artifact=UUID(int=7)),
    "human chunk": HumanMessageChunk("hel"),
    "ai chunk": AIMessageChunk(
        "hel",
        tool_call_chunks=[{"name": "f", "args": '{"a', "id": "c", "index": 0, "type": "tool_call_chunk"}],
        chunk_position="last",
    ),
    "system chunk": SystemMessageChunk("hel"),
    "tool chunk": ToolMessageChunk("hel", tool_call_id="c"),
    "function chunk": FunctionMessageChunk("hel", name="f"),
    "chat chunk": ChatMessageChunk("hel", role="critic"),
    "a field set to another type": HumanMessage("x").model_copy(update={"content": {"not": "allowed"}}),
}
