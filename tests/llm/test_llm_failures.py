"""What is read out of an exception, without any wire: secrets, waits, causes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mnesis.errors import LLMBadRequestError, LLMError, LLMRateLimitError, LLMServerError, LLMTimeoutError
from mnesis.llm.litellm_errors import cause_chain, retry_after_seconds, to_llm_error
from mnesis.llm.litellm_replies import parse_tool_call

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOON) == seconds


class RateLimitError(Exception):
    """Named as litellm's."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 6.5s.", 6.5),
        ("Please try again in 20ms.", 0.02),
        ("try again in 1m30s", 90.0),
        ("Please retry after 20 seconds", 20.0),
        ('"retryDelay": "34s"', 34.0),
        ("Try again later", None),
    ],
)
def test_a_wait_named_in_the_text_is_read(text: str, seconds: float | None) -> None:
    found = to_llm_error(RateLimitError(text), model="m")
    assert type(found) is LLMRateLimitError
    assert found.retry_after_seconds == seconds


class APIConnectionError(Exception):
    """Named as litellm's."""


def under(cause: Exception) -> LLMError:
    error = APIConnectionError("something")
    error.__cause__ = cause
    return to_llm_error(error, model="m", partial_text="so far")


def test_a_fault_in_the_code_is_not_taken_for_a_broken_connection() -> None:
    missing = under(ModuleNotFoundError("No module named 'gizmo'", name="gizmo"))
    assert type(missing) is LLMBadRequestError
    assert "install" in str(missing)
    assert type(under(TypeError("unexpected argument"))) is LLMBadRequestError
    assert type(under(TimeoutError())) is LLMTimeoutError


def test_what_had_arrived_goes_with_the_error() -> None:
    assert under(ConnectionResetError()).partial_text == "so far"


def test_something_unheard_of_may_pass() -> None:
    assert type(to_llm_error(Exception("strange"), model="m")) is LLMServerError


def test_causes_end_even_in_a_circle() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__cause__ = second, first
    assert list(cause_chain(first)) == [first, second]


def test_arguments_nested_beyond_reading_are_kept_as_written() -> None:
    part = parse_tool_call("c", "f", "[" * 100_000)
    assert (part.input, part.raw_input) == ({}, "[" * 100_000)


def test_a_call_without_an_id_gets_one() -> None:
    one, other = parse_tool_call("", "f", "{}"), parse_tool_call("", "f", "{}")
    assert one.tool_call_id != other.tool_call_id
    assert one.tool_call_id.startswith("call_")
