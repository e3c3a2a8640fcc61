"""Messages that are created without validation are those that validation creates."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.errors import InvalidMessageError
from mnesis.formats.parse import new_message
from mnesis.models.message import Message, Role, TextPart
from mnesis.models.text_message import create_text_message, create_text_part
from mnesis.store.codec import decode_message, encode_message, hash_of
from mnesis.store.sqlite.rows import encoded_from_row, message_from_row, message_row
from mnesis.store.text_rows import decode_text_row

roles = st.sampled_from(["system", "user", "assistant", "tool"])
numbers = st.integers(0, 2**40)
texts = st.text(st.characters(exclude_categories=()))


@given(texts, roles, st.text(min_size=1), numbers, st.none() | st.text())
def test_a_text_message_is_the_one_that_validation_creates(
    text: str, role: Role, id: str, number: int, finish_reason: str | None
) -> None:
    fields: dict[str, Any] = {
        "id": id,
        "role": role,
        "session_id": "s",
        "seq": 3,
        "created_at": number,
        "token_count": number,
    }
    fields |= {"tool_tokens": 1, "model_id": "openai/gpt-4o", "finish_reason": finish_reason}
    created, validated = (
        create_text_message(create_text_part(text), **fields),
        Message(parts=(TextPart(text=text),), **fields),
    )
    assert created == validated
    assert list(created.__dict__) == list(validated.__dict__) == list(Message.model_fields)
    assert created.model_fields_set == validated.model_fields_set
    assert created.parts[0].model_fields_set == validated.parts[0].model_fields_set
    assert pickle.loads(pickle.dumps(created)) == validated  # our own bytes
    assert created.model_copy(update={"seq": 4}) == validated.model_copy(update={"seq": 4})
    assert repr(created) == repr(validated)
    with pytest.raises(ValueError, match="frozen"):
        created.seq = 5


def row_of(message: Message, seq: int = 1) -> tuple[Any, ...]:
    stored = encode_message(message)
    return message_row(1, seq, stored, hash_of("s", seq, stored))[1:]


def test_messages_of_one_text_are_decoded_without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Message(id="m", role="assistant", parts=(TextPart(text="Ä\n\ud800"),), model_id="m", finish_reason="stop")
    row = row_of(message)

    def refuse(*arguments: object, **fields: object) -> None:
        raise AssertionError("a value was validated")

    monkeypatch.setattr(Message, "__init__", refuse)
    monkeypatch.setattr(TextPart, "__init__", refuse)
    assert message_from_row("s", row) == message.model_copy(update={"session_id": "s", "seq": 1})


@given(texts, roles, st.text(min_size=1), numbers, st.none() | st.text(), st.text(), st.integers(0, 8))
def test_a_row_of_one_text_is_decoded_as_others_are(
    text: str, role: Role, id: str, number: int, finish_reason: str | None, model_id: str, place: int
) -> None:
    message = Message(
        id=id,
        role=role,
        parts=(TextPart(text=text),),
        created_at=number,
        model_id=model_id,
        finish_reason=finish_reason,
    )
    try:
        row = row_of(message)
    except InvalidMessageError:  # an id that no store accepts
        return
    decoded = decode_message("s", 1, encoded_from_row(row))
    assert decode_text_row("s", row, "s") in (decoded, None)
    assert message_from_row("s", row) == decoded
    assert message_from_row("s", (*row[:5], encode_message(message).digest, *row[6:])) == decoded
    for damaged in (None, 1, "x", b"x", 2.5):
        if row[place] != damaged and not (place == 4 and row[4] is None and not damaged):
            assert decode_text_row("s", (*row[:place], damaged, *row[place + 1 :]), "s") is None


@pytest.mark.parametrize(
    "fields", [{"cost": 0.5}, {"extra": {"a": 1}}, {"is_summary": True}, {"tokens": {"input": 1}}], ids=str
)
def test_messages_with_more_are_decoded_whole(fields: dict[str, Any]) -> None:
    message = Message(id="m", role="user", parts=(TextPart(text="x"),), **fields)
    stored = encode_message(message)
    stored = stored._replace(stored_hash=hash_of("s", 1, stored))
    assert decode_message("s", 1, stored) == message.model_copy(update={"session_id": "s", "seq": 1})


@pytest.mark.parametrize(
    "fields", [{"cost": -1.0}, {"finish_reason": 5}, {"model_id": None}, {"token_count": -1}], ids=str
)
def test_a_new_message_with_an_invalid_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the message is not valid"):
        new_message("assistant", [TextPart(text="x")], **fields)
