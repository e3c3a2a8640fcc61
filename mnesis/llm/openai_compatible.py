"""The client for OpenAI-compatible endpoints, without litellm: one pooled HTTP session per event loop.

Only this file imports aiohttp, which litellm depends on: at the first call, in a thread.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

from mnesis.errors import ConfigurationError, LLMConnectionError, LLMError, LLMResponseError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.chat_request import build_body
from mnesis.llm.litellm_errors import to_llm_error
from mnesis.llm.litellm_replies import StreamedReply, parse_reply, parse_usage
from mnesis.llm.piece_timer import PieceTimer
from mnesis.llm.prices import compute_cost, load_prices
from mnesis.llm.proxies import find_proxy
from mnesis.llm.refusals import Refusals, find_refusal, without
from mnesis.llm.server_events import EventParser
from mnesis.models.usage import TokenUsage

DONE = b"[DONE]"
FIRST_ERROR_STATUS, END_OF_STATUSES = 400, 600
MAX_SHOWN_CHARS = 1_000
"""The largest part of an endpoint's error response that is read."""


class OpenAICompatibleLLM:
    """A client for an endpoint that speaks OpenAI's chat completions, such as vLLM, llama.cpp, Groq or OpenAI itself.

    `base_url` is the address before `/chat/completions`. `headers` are sent with each request. `model`, if given, replaces
    the model that a request names. The endpoint receives the model string without the provider in front: "openai/gpt-4o" is
    sent as "gpt-4o". Options `api_base` and `api_key` of a request take precedence over those given here.

    Connections are kept and used again, one pool for each event loop, until `close()`. The proxy of an address is looked up
    at its first call. The client does not retry, because `mnesis.llm.retry` does.

    ```python
    async with OpenAICompatibleLLM("http://localhost:8000/v1") as llm:
        async with MnesisSession.open(model="hosted_vllm/Qwen/Qwen3-8B", llm=llm) as session:
            await session.send("Hello")
    ```
    """

    accepts_cache_marks = True

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"base_url must begin with http:// or https://, not {base_url!r}; pass the address before /chat/completions"
            )
        self.base_url = base_url
        self.model = model
        self._api_key = api_key
        self._headers = dict(headers or {})
        self._sessions: dict[asyncio.AbstractEventLoop, Any] = {}
        self._proxies: dict[str, str | None] = {}
        self._refusals = Refusals()
        weakref.finalize(self, _forget_ended_loops, self._sessions)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, model={self.model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. A later call opens new connections."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        _forget_ended_loops(self._sessions)
        if session is not None:
            await session.close()

    async def prepare(self) -> None:
        """Import the HTTP client and read the list of prices: in a thread, so that the event loop stays free."""
        await _load_aiohttp()

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the model and return the whole answer. Raises `LLMError`, also after `timeout_seconds`."""
        model = self.model or request.model
        try:
            async with (
                _limit_time(request.timeout_seconds),
                self._response(model, request, is_streamed=False) as response,
            ):
                answer = _parse_json(await response.read())
            return _whole_reply(answer, model)
        except LLMError:
            raise
        except Exception as error:  # any failure of the HTTP client is a failed call; clients raise only LLMError
            raise self._convert(error, model) from error

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Call the model; yield pieces as they arrive, then the whole answer. Raises `LLMError`.

        `timeout_seconds` limits the wait for each piece. Closing the stream closes the connection.
        """
        model, reply = self.model or request.model, StreamedReply()
        try:
            async with AsyncExitStack() as stack:
                timer = stack.enter_context(closing(PieceTimer(request.timeout_seconds)))
                opening = stack.enter_async_context(self._response(model, request, is_streamed=True))
                async for event in _read_events(await timer.wait(opening), timer):
                    if delta := reply.add(event):
                        yield delta
            if not reply.finish_reason:
                raise _unfinished_error(reply, model)
            usage = parse_usage(reply.usage_report)
            yield reply.to_reply(usage, _cost(reply.usage_report, usage, model), model)
        except LLMError:
            raise
        except Exception as error:  # as in complete()
            raise self._convert(error, model, reply.text) from error

    @asynccontextmanager
    async def _response(self, model: str, request: LLMRequest, *, is_streamed: bool) -> AsyncIterator[Any]:
        """Send a request, and again without the parts that the endpoint rejects, and yield the response.

        A response that was not read to its end is closed with its connection, so that the endpoint stops.
        """
        options = request.options
        base_url = str(options.get("api_base") or options.get("base_url") or self.base_url)
        body = self._refusals.apply({"api_base": base_url, **build_body(model, request, is_streamed=is_streamed)})
        rejected: list[str] = []
        while True:
            response = await self._post(f"{base_url.rstrip('/')}/chat/completions", body, options)
            try:
                if response.status < FIRST_ERROR_STATUS:
                    for part in rejected:
                        self._refusals.add(body, part)
                    yield response
                    return
                text = (await response.read()).decode(errors="replace")
                error = HTTPStatusError(response.status, self._hide_key(text, options), response.headers)
            finally:
                if not response.content.at_eof():
                    response.close()
            rejected_part = find_refusal(body, error)
            if rejected_part is None:
                raise error
            rejected.append(rejected_part)
            body = without(rejected_part, body)

    async def _post(self, url: str, body: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        key = options.get("api_key") or self._api_key
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {key}"} if key else {}),
            **self._headers,
            **(options.get("headers") or {}),
            **(options.get("extra_headers") or {}),
        }
        content = {name: value for name, value in body.items() if name != "api_base"}
        session, proxy = await self._session(), await self._proxy(url)
        return await session.post(url, data=json.dumps(content, default=str).encode(), headers=headers, proxy=proxy)

    async def _proxy(self, url: str) -> str | None:
        # With trust_env, aiohttp would look up the proxy and read ~/.netrc at every call, each in a thread.
        if url not in self._proxies:
            self._proxies[url] = await anyio.to_thread.run_sync(find_proxy, url, abandon_on_cancel=True)
        return self._proxies[url]

    def _hide_key(self, text: str, options: Mapping[str, Any]) -> str:
        """Return an endpoint's answer without the key, which the patterns for redaction may not recognise."""
        key = str(options.get("api_key") or self._api_key or "")
        return text.replace(key, "[redacted: api-key]") if key else text

    async def _session(self) -> Any:
        aiohttp = await _load_aiohttp()
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            _forget_ended_loops(self._sessions)
            # The callers limit how many calls run at once, and how long each may take.
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
            )
        return session

    def _convert(self, error: Exception, model: str, partial_text: str = "") -> LLMError:
        if isinstance(error, HTTPStatusError):
            return to_llm_error(error, model=model, partial_text=partial_text)
        failure = CallError(str(error) or type(error).__name__)
        failure.__cause__ = error
        return to_llm_error(failure, model=model, partial_text=partial_text)


class HTTPStatusError(Exception):
    """A response with an error status. `to_llm_error` reads a status from exceptions of this name and form."""

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.message = _error_text(body) or f"HTTP status {status}"
        self.response = _ErrorResponse(status, {name.lower(): value for name, value in headers.items()})
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class _ErrorResponse:
    status_code: int
    headers: dict[str, str]


class CallError(Exception):
    """A call that got no usable response. Its cause says why."""


class _JSONObject(dict[str, Any]):
    """A JSON object whose members are also attributes, None if they are missing, as in the responses of litellm."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


_decode = json.JSONDecoder(
    object_hook=_JSONObject
).decode  # json.loads() would create a decoder for each piece of a stream


def _parse_json(data: bytes) -> _JSONObject:
    """Parse a response or an event. Raises the error that the response reports, and ValueError if it is not an
    object.
    """
    value = _decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    if not isinstance(value, _JSONObject):
        raise json.JSONDecodeError("not a JSON object", data.decode(errors="replace")[:MAX_SHOWN_CHARS], 0)
    if value.error and not value.choices:
        raise _reported_error(value.error)
    for choice in value.choices or ():
        _normalize(choice.message or choice.delta or _JSONObject())
    return value


def _reported_error(error: Any) -> Exception:
    """Return the exception for an error in a response with status 200, as OpenRouter and vLLM report failures of a stream."""
    text = json.dumps({"error": error})
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and FIRST_ERROR_STATUS <= code < END_OF_STATUSES:
        return HTTPStatusError(code, text, {})
    return CallError(_error_text(text))


def _normalize(message: _JSONObject) -> None:
    """Move reasoning to the field that the parser reads.

    OpenRouter and newer releases of vLLM call it `reasoning` (openrouter.ai/docs, reasoning tokens; docs.vllm.ai, reasoning
    outputs). Magistral's content is a list with thinking and text (docs.mistral.ai/capabilities/reasoning).
    """
    if isinstance(message.reasoning, str) and not message.reasoning_content:
        message["reasoning_content"] = message.reasoning
    if isinstance(message.content, list):
        thinking = [part for block in message.content if block.type == "thinking" for part in block.thinking or ()]
        message["content"] = "".join(block.text or "" for block in message.content if block.type == "text")
        message["reasoning_content"] = "".join(part.text or "" for part in thinking) or message.reasoning_content


def _error_text(body: str) -> str:
    """Return the message in an error response: OpenAI's form, or FastAPI's, or the text itself."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip()[:MAX_SHOWN_CHARS]
    error = value.get("error", value) if isinstance(value, dict) else value
    message = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    return str(message or body)[:MAX_SHOWN_CHARS]


async def _read_events(response: Any, timer: PieceTimer) -> AsyncIterator[_JSONObject]:
    """Yield the events of a stream. An endpoint that does not stream answers with one whole response, which is one event."""
    parser = EventParser()
    if "json" in response.headers.get("content-type", ""):
        yield _as_event(_parse_json(await timer.wait(response.read())))
        return
    while chunk := await timer.wait(response.content.readany()):
        for data in parser.feed(chunk):
            if data == DONE:
                await asyncio.sleep(
                    0
                )  # the end of the body follows; once it has arrived, the connection can be used again
                return
            yield _parse_json(data)
    for data in parser.finish():
        if data != DONE:
            yield _parse_json(data)


def _as_event(response: _JSONObject) -> _JSONObject:
    for choice in response.choices or ():
        choice["delta"] = choice.message or _JSONObject()
    return response


def _whole_reply(response: _JSONObject, model: str) -> LLMReply:
    if not response.choices:
        raise _no_choices_error("answer", model)
    usage = parse_usage(response.usage)
    return parse_reply(response.choices[0], usage, _cost(response.usage, usage, model), model)


def _no_choices_error(what: str, model: str) -> LLMResponseError:
    return LLMResponseError(
        f"{model}: the {what} has no choices; check that base_url leads to a chat-completions endpoint", model=model
    )


def _unfinished_error(reply: StreamedReply, model: str) -> LLMError:
    if not (reply.text or reply.reasoning):
        return _no_choices_error("stream", model)
    message = f"{model}: the stream ended before the answer was finished"
    return LLMConnectionError(message, model=model, partial_text=reply.text)


def _cost(report: Any, usage: TokenUsage | None, model: str) -> float:
    """Return the cost that the endpoint reported, as OpenRouter does, or the cost by the list of prices."""
    if usage is None:
        return 0.0
    reported = report.cost
    return max(float(reported), 0.0) if isinstance(reported, int | float) else compute_cost(model, usage)


@asynccontextmanager
async def _limit_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        raise


def _forget_ended_loops(sessions: dict[asyncio.AbstractEventLoop, Any]) -> None:
    """Close and forget the connections of event loops that were closed."""
    for loop in [loop for loop in sessions if loop.is_closed()]:
        closing_session = sessions.pop(loop).close()
        with suppress(StopIteration, RuntimeError):
            closing_session.send(None)  # aiohttp has nothing to wait for if the loop was closed
        closing_session.close()


_aiohttp: Any = None


async def _load_aiohttp() -> Any:
    """Return the aiohttp module. The first import and the first use of the list of prices happen in a thread."""
    return _aiohttp or await anyio.to_thread.run_sync(_import_once, abandon_on_cancel=True)


def _import_once() -> Any:
    global _aiohttp
    import aiohttp

    load_prices()
    _aiohttp = aiohttp
    return aiohttp
