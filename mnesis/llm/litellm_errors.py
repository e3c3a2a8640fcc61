"""Exceptions of litellm as `LLMError`.

Pure functions, no I/O. Exceptions are recognized by class name, without litellm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mnesis.errors import (
    ContextOverflowError,
    LLMAuthenticationError,
    LLMBadRequestError,
    LLMConnectionError,
    LLMError,
    LLMRateLimitError,
    LLMResponseError,
    LLMServerError,
    LLMTimeoutError,
)

MAX_DETAIL_CHARS = 1_000

# The order matters: litellm's Timeout is also an APIConnectionError, its ContextWindowExceededError also a BadRequestError.
_BY_CLASS: tuple[tuple[str, type[LLMError]], ...] = (
    ("ContextWindowExceededError", ContextOverflowError),
    ("AuthenticationError", LLMAuthenticationError),
    ("PermissionDeniedError", LLMAuthenticationError),
    ("RateLimitError", LLMRateLimitError),
    ("Timeout", LLMTimeoutError),
    ("TimeoutError", LLMTimeoutError),
    ("BadRequestError", LLMBadRequestError),
    ("NotFoundError", LLMBadRequestError),
    ("UnprocessableEntityError", LLMBadRequestError),
)
_BY_STATUS: dict[int, type[LLMError]] = {
    401: LLMAuthenticationError,
    403: LLMAuthenticationError,
    408: LLMTimeoutError,
    429: LLMRateLimitError,
    504: LLMTimeoutError,
}
_TIMEOUTS = frozenset({"TimeoutError", "TimeoutException", "APITimeoutError"})
# StopAsyncIteration is the context of the error that newer litellm versions raise for a stream without a finish reason.
_BROKEN_CONNECTIONS = frozenset(
    {"TransportError", "ConnectionError", "ClientConnectionError", "ClientPayloadError", "StopAsyncIteration"}
)
_WRONG_SHAPES = frozenset({"JSONDecodeError", "KeyError", "IndexError", "AttributeError", "ValidationError"})
_WRONG_CALLS = frozenset({"ImportError", "TypeError"})

_MISSING_KEY = re.compile(
    r"(?i)missing [\w .-]*(?:api[ _]?key|credentials)|no api[ _]?key|api_key .{0,40}must be set|locate credentials"
)
_OVERFLOW = re.compile(
    r"(?i)context[ _](?:length|window|size|limit)|maximum context|(?:prompt|input) is too long"
    r"|too many (?:input )?tokens|reduce the length|number of tokens allowed|maximum input length"
)
_WRONG_SHAPE_TEXT = re.compile(
    r"(?i)invalid response|provider returned (?:a response with no )?'choices'|unable to get json"
)
_WAIT_TEXT = re.compile(
    r"(?i)(?:try again in|retry after|retry[-_]?after\W+|retrydelay\W+)\s*(?:(\d+)m(?!s))?\s*(\d+(?:\.\d+)?)\s*(ms|s)"
)
_PREFIXES = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Timeout|Exception)(?:: | - ))+")

_ADVICE: dict[type[LLMError], str] = {
    LLMTimeoutError: "raise request_timeout_seconds if the model needs longer",
    LLMConnectionError: "check the network and api_base",
    LLMResponseError: "check that api_base leads to a chat-completions endpoint",
}


def to_llm_error(
    error: BaseException, *, model: str, partial_text: str = "", missing_keys: Sequence[str] = ()
) -> LLMError:
    """Convert an exception of a litellm call to an `LLMError`. The caller chains the original.

    `missing_keys` are the unset environment variables from which the provider would read an API key.
    """
    chain = list(cause_chain(error))
    error_class = _error_class(chain)
    is_key_missing = error_class is LLMAuthenticationError and _status(chain) is None and missing_keys
    # litellm's own text names its classes and repeats the variable that the advice names.
    detail = "there is no API key" if is_key_missing else _detail(chain)
    advice = _advice(error_class, chain, missing_keys)
    return error_class(
        f"{model}: {detail}" + (f"; {advice}" if advice else ""),
        model=model,
        status_code=_status(chain),
        retry_after_seconds=_retry_after(chain, datetime.now(UTC)),
        partial_text=partial_text,
    )


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause of that, and so on, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _error_class(chain: Sequence[BaseException]) -> type[LLMError]:
    text, status = _detail(chain), _status(chain)
    by_class = next((error_class for name, error_class in _BY_CLASS if name in _names(chain[:1])), None)
    if by_class in (LLMBadRequestError, None) and (status == 413 or (_is_client(status) and _OVERFLOW.search(text))):
        return ContextOverflowError
    if _MISSING_KEY.search(text):
        return LLMAuthenticationError
    if by_class is not None:
        return by_class
    if status is not None:
        return _BY_STATUS.get(status, LLMBadRequestError if _is_client(status) else LLMServerError)
    return _error_class_without_status(chain, text)


def _error_class_without_status(chain: Sequence[BaseException], text: str) -> type[LLMError]:
    """Return the error class, from the causes, if no HTTP status was received."""
    names = _names(chain[1:])
    if names & _TIMEOUTS:
        return LLMTimeoutError
    if names & _BROKEN_CONNECTIONS:
        return LLMConnectionError
    if names & _WRONG_CALLS:
        return LLMBadRequestError
    if names & _WRONG_SHAPES or _WRONG_SHAPE_TEXT.search(text):
        return LLMResponseError
    return LLMConnectionError if "APIConnectionError" in _names(chain[:1]) else LLMServerError


def _names(chain: Sequence[BaseException]) -> set[str]:
    return {base.__name__ for error in chain for base in type(error).__mro__}


def _is_client(status: int | None) -> bool:
    return status is None or 400 <= status < 500


def _status(chain: Sequence[BaseException]) -> int | None:
    """Return the HTTP status from the provider.

    The status of litellm's own exceptions does not count, because it may be invented.
    """
    responses = (getattr(error, "response", None) for error in chain if "HTTPStatusError" in _names([error]))
    return next((int(response.status_code) for response in responses if response is not None), None)


def _detail(chain: Sequence[BaseException]) -> str:
    error = chain[0]
    text = str(getattr(error, "message", None) or error).split("Traceback (most recent call last)", 1)[0]
    return _PREFIXES.sub("", text).strip()[:MAX_DETAIL_CHARS] or type(error).__name__


def _advice(error_class: type[LLMError], chain: Sequence[BaseException], missing_keys: Sequence[str]) -> str:
    missing_module = next((error.name for error in chain if isinstance(error, ImportError) and error.name), None)
    if error_class is LLMBadRequestError and missing_module:
        return f"the module {missing_module!r} is not installed; install it"
    if error_class is LLMAuthenticationError:
        key_advice = f"set {' or '.join(missing_keys)}" if missing_keys else "check the API key in the environment"
        return f"{key_advice}, or pass api_key in llm_options"
    return _ADVICE.get(error_class, "")


def _retry_after(chain: Sequence[BaseException], now: datetime) -> float | None:
    for error in chain:
        headers = getattr(error, "litellm_response_headers", None) or getattr(
            getattr(error, "response", None), "headers", None
        )
        if headers and (value := headers.get("retry-after")):
            return retry_after_seconds(str(value), now)
    match = _WAIT_TEXT.search(_detail(chain))
    if match is None:
        return None
    minutes, amount, unit = match.groups()
    return int(minutes or 0) * 60 + float(amount) / (1000 if unit.lower() == "ms" else 1)


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header.

    The value is a number or an HTTP date (RFC 9110, section 10.2.3). Returns None for any other value.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            retry_at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (retry_at.replace(tzinfo=retry_at.tzinfo or UTC) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
