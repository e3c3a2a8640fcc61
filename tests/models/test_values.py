"""Messages and usage: frozen, strict, and equal after a round trip."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mnesis.models.message import PARTS_ADAPTER, Message, TextPart, ToolPart, ToolStatus, text_message
from mnesis.models.results import CompactionAttempt, CompactionResult
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import encode_summary
from tests.support.histories import histories, tool_calls
from tests.support.samples import sampled

counts = st.integers(0, 10**9)
usages = st.builds(TokenUsage, input=counts, output=counts, cache_read=counts, cache_write=counts, total=counts)


@given(usages, usages)
def test_usage_adds_up_field_by_field(one: TokenUsage, other: TokenUsage) -> None:
    both = one + other
    for name in ("input", "output", "cache_read", "cache_write"):
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    assert both.effective_total() == one.effective_total() + other.effective_total()
    assert both == TokenUsage(**both.model_dump())
    assert both.model_fields_set == set(TokenUsage.model_fields)


def test_the_total_is_what_was_reported_or_else_the_sum() -> None:
    assert TokenUsage(input=1, output=2, cache_read=3, cache_write=4).effective_total() == 10
    assert TokenUsage(input=1, output=2, total=99).effective_total() == 99
    assert TokenUsage(input=1, cache_read=3, cache_write=4).request_tokens == 8
    assert TokenUsage(output=2, total=99).request_tokens == 97
    assert TokenUsage(output=5, total=3).request_tokens == 0


@pytest.mark.parametrize("fields", [{"input": -1}, {"input": "many"}, {"inputs": 1}])
def test_impossible_usage_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TokenUsage(**fields)  # type: ignore[arg-type]  # wrong on purpose


@given(histories(max_size=4))
@settings(
    max_examples=sampled(60), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_a_message_is_equal_after_a_round_trip_through_plain_values(messages: list[Message]) -> None:
    for message in messages:
        assert Message.model_validate(message.model_dump()) == message
        assert tuple(PARTS_ADAPTER.validate_python([part.model_dump() for part in message.parts])) == message.parts


@given(tool_calls())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_calls_outcome_answers_that_call(call: ToolPart) -> None:
    if call.has_result:
        result = call.result()
        assert (result.tool_call_id, result.tool_name) == (call.tool_call_id, call.tool_name)
        assert result.output == (call.error_message if call.error_message is not None else call.output)
        assert result.is_error == (call.error_message is not None)


def test_an_outcome_may_be_empty_or_known_by_its_state_alone() -> None:
    assert not ToolPart(tool_name="f", tool_call_id="a").has_result
    assert ToolPart(tool_name="f", tool_call_id="a", output="").has_result
    failed = ToolPart(tool_name="f", tool_call_id="a", status=ToolStatus(state="error"))
    assert failed.has_result
    assert failed.result().is_error
    assert not ToolPart(tool_name="f", tool_call_id="a", status=ToolStatus(state="running")).has_result


def test_messages_cannot_be_changed() -> None:
    message = text_message("user", "hello")
    with pytest.raises(ValidationError):
        message.role = "assistant"
    with pytest.raises(ValidationError):
        Message(id="a", role="user", text="x")  # type: ignore[call-arg]  # wrong on purpose


def test_text_content_joins_the_text_parts_and_nothing_else() -> None:
    call = ToolPart(tool_name="f", tool_call_id="a", output="out")
    message = Message(id="a", role="assistant", parts=(TextPart(text="one "), call, TextPart(text="two")))
    assert message.text_content() == "one two"
    assert message.tool_calls == [call]
    assert Message(id="a", role="user", model_id="anthropic/x").provider_id == "anthropic"
    assert Message(id="a", role="user", model_id="x").provider_id == ""


def test_renamed_fields_keep_their_stored_names() -> None:
    fields: dict[str, Any] = {
        "id": "s",
        "kind": "leaf",
        "depth": 0,
        "level": 1,
        "text": "t",
        "token_count": 1,
        "first_seq": 1,
    }
    summary = Summary(**fields, last_seq=1, message_count=1, source_tokens=2, pointers=("p",))
    assert summary.model_dump()["digs"] == ("p",)
    assert "pointers" not in summary.model_dump()
    assert json.loads(encode_summary(summary)[0])["digs"] == ["p"]
    assert Summary(**summary.model_dump()) == summary == Summary.model_validate_json(summary.model_dump_json())
    attempts = (CompactionAttempt(level=1, rejection="too long"), CompactionAttempt(level=2))
    result = CompactionResult(session_id="s", attempts=attempts)
    assert result.model_dump()["attempts"] == ({"level": 1, "refused": "too long"}, {"level": 2, "refused": ""})
    assert CompactionResult(**result.model_dump(mode="json")) == result
