"""What is encoded comes back equal, or is refused."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.errors import InvalidMessageError
from mnesis.models.message import DataPart, Message, MessagePart, TextPart, ToolPart, ToolResultPart, text_message
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import DamagedValueError, decode_message, encode_message, from_json, hash_of, to_json
from mnesis.testing.store_samples import EVERY_PART, HOSTILE_TEXTS
from tests.support.samples import sampled

ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from('\ud83d\ude00\x00"\\'))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(ANY_TEXT, JSON, max_size=3)
PARTS: st.SearchStrategy[MessagePart] = (
    st.builds(TextPart, text=ANY_TEXT, provider=st.none() | OBJECTS)
    | st.builds(DataPart, kind=ANY_TEXT, data=OBJECTS, text=ANY_TEXT)
    | st.builds(ToolPart, tool_name=ANY_TEXT, tool_call_id=ANY_TEXT, input=OBJECTS, output=st.none() | ANY_TEXT)
    | st.builds(ToolResultPart, tool_call_id=ANY_TEXT, output=ANY_TEXT, is_error=st.booleans())
    | st.sampled_from(EVERY_PART)
)
MESSAGES = st.builds(
    Message,
    id=st.text(st.characters(codec="utf-8"), min_size=1),
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    parts=st.lists(PARTS, max_size=4).map(tuple),
    created_at=st.integers(-(2**63), 2**63 - 1),
    token_count=st.integers(0, 2**63 - 1),
    tool_tokens=st.integers(0, 2**63 - 1),
    model_id=ANY_TEXT,
    tokens=st.none() | st.builds(TokenUsage, input=st.integers(0), total=st.integers(0)),
    cost=st.floats(min_value=0, allow_infinity=False).map(lambda cost: cost + 0.0),
    finish_reason=st.none() | ANY_TEXT,
    extra=OBJECTS,
)


@given(MESSAGES)
@settings(deadline=None, max_examples=sampled(80))
def test_a_message_comes_back_equal(message: Message) -> None:
    encoded = encode_message(message)
    back = decode_message("s", 7, encoded._replace(stored_hash=hash_of("s", 7, encoded)))
    assert back == message.model_copy(update={"session_id": "s", "seq": 7})
    assert json.dumps(back.model_dump(mode="python"), default=str) == json.dumps(
        message.model_copy(update={"session_id": "s", "seq": 7}).model_dump(mode="python"), default=str
    )


@given(ANY_TEXT)
def test_any_text_comes_back_equal(text: str) -> None:
    assert from_json(to_json(text, "text")) == text


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_texts_are_kept_as_json_that_others_can_read_too(text: str) -> None:
    encoded = encode_message(text_message("user", text))
    if text != "\ud83d\ude00":
        assert json.loads(encoded.parts.decode()) == text


def test_only_what_differs_from_its_default_takes_room() -> None:
    encoded = encode_message(text_message("user", "hi"))
    assert (encoded.parts, encoded.meta) == (b'"hi"', None)
    part = ToolPart(tool_name="t", tool_call_id="c")
    encoded = encode_message(Message(id="x", role="assistant", parts=(part,), model_id="m", tokens=TokenUsage(input=3)))
    assert encoded.parts == b'[{"type":"tool","tool_name":"t","tool_call_id":"c"}]'
    assert encoded.meta == b'{"model_id":"m","tokens":{"input":3}}'


def test_a_refusal_names_the_place() -> None:
    bad: Any = {"a": [{"b": {1, 2}}]}
    message = Message(id="x", role="user", parts=(TextPart(text="t"), DataPart(kind="k", data=bad)))
    with pytest.raises(InvalidMessageError, match=r"message 'x', parts\[1\]\.data\.a\[0\]\.b is a set"):
        encode_message(message)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(st.characters(codec="utf-8")))
def test_values_are_written_as_the_json_module_writes_them(value: object) -> None:
    nested = {"a": [value, {"b": value, "": None}], "c": [[], {}, True]}
    assert to_json(nested, "value") == json.dumps(nested, ensure_ascii=False, separators=(",", ":")).encode()


def test_what_json_cannot_hold_is_refused() -> None:
    own: list[object] = []
    own.append(own)
    for value in (own, float("nan"), {"a": {1}}, object()):
        with pytest.raises(InvalidMessageError, match="value cannot be stored"):
            to_json(value, "value")


@given(st.data())
@settings(deadline=None)
def test_any_flipped_bit_is_seen(data: st.DataObject) -> None:
    text = data.draw(st.text(string.printable))
    encoded = encode_message(text_message("assistant", text, extra={"k": "v"}))
    field = data.draw(st.sampled_from(["parts", "meta", "digest"]))
    content = bytearray(getattr(encoded, field))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(DamagedValueError):
        decode_message("s", 1, encoded._replace(**{field: bytes(content)}))
