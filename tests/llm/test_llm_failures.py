"""What is read out of an exception, without any wire: secrets, waits, causes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.errors import LLMBadRequestError, LLMError, LLMRateLimitError, LLMServerError, LLMTimeoutError
from mnesis.llm.litellm_errors import cause_chain, retry_after_seconds, to_llm_error
from mnesis.llm.litellm_replies import parse_tool_call
from mnesis.llm.redact import redact

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "blanked"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF456.", "Incorrect API key provided: [redacted]"),
        ("Invalid API Key provided: 0123456789abcdef", "Invalid API Key provided: [redacted]"),
        ("header Authorization: Bearer eyJhbGciOi.J9-x_y~z=", "header Authorization: Bearer [redacted]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted]"),
        (
            "GET https://x.test/v1?key=AIzaSyA1234567890abcdefghijk&alt=sse",
            "GET https://x.test/v1?key=[redacted]&alt=sse",
        ),
        ("AIzaSyA1234567890abcdefghijk was refused", "[redacted] was refused"),
        ('{"api_key": "abcdefgh12345678", "model": "m"}', '{"api_key": "[redacted]", "model": "m"}'),
        ("api-key=abcdefgh12345678&x=1", "api-key=[redacted]&x=1"),
        ("credential AKIAIOSFODNN7EXAMPLE is unknown", "credential [redacted] is unknown"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"),
        ("gsk_abcdefghijkl and xai-abcdefghijkl", "[redacted] and [redacted]"),
    ],
)
def test_secrets_are_blanked(text: str, blanked: str) -> None:
    assert redact(text) == blanked


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens: yours has 9000 tokens",
        "set OPENAI_API_KEY, or pass api_key in llm_options",
        "basic information about a bearer of bad news, a monkey=bars, a risk-averse task-list",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(), st.text())
def test_a_key_never_survives_whatever_stands_around_it(before: str, after: str) -> None:
    assert "hunter2hunter2" not in redact(f"{before} sk-hunter2hunter2 {after}")


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
