"""An OpenAI-compatible chat server on loopback that replies from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
COMPLETION = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "test-model"}


class Exchange(BaseHTTPRequestHandler):
    """One request, and methods to answer it."""

    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.body: dict[str, Any] = json.loads(raw)
        self.close_connection = True
        answer = self.server.owner.next_answer(self.body, {name.lower(): value for name, value in self.headers.items()})
        try:
            answer(self)
        except OSError:
            self.server.owner.client_gone.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def send_whole(self, status: int, content_type: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_whole(status, "application/json", json.dumps(value).encode(), headers)

    def start_stream(self) -> None:
        self.send_response(200)
        for name, value in {
            "Content-Type": "text/event-stream",
            "Transfer-Encoding": "chunked",
            "Connection": "close",
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def send_line(self, line: str) -> None:
        """Send one server-sent event as one HTTP chunk."""
        data = f"{line}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self.send_line("data: " + json.dumps({**CHUNK, "choices": [choice]}))

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def wait_for_hang_up(self) -> None:
        """Send nothing until the client closes the connection."""
        self.wfile.flush()
        self.connection.settimeout(60)
        if self.connection.recv(1) == b"":
            self.server.owner.client_gone.set()


CHUNK = {**COMPLETION, "object": "chat.completion.chunk"}
Answer = Callable[[Exchange], None]


@dataclass
class Reply:
    """A complete reply, plain or streamed as requested. `pieces` are the deltas of a stream; joined, they are the text.

    `calls` are (id, name, arguments). In a stream, the arguments of several calls are interleaved. With `release`, the
    server waits for the event after the first piece.
    """

    pieces: Iterable[str] = ("Hello", " world")
    reasoning: str = ""
    calls: Iterable[tuple[str, str, str]] = ()
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    finish_reason: str = "stop"
    release: threading.Event | None = None
    message: dict[str, Any] = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> None:
        if exchange.body.get("stream"):
            self._stream(exchange)
        else:
            self._whole(exchange)

    def _whole(self, exchange: Exchange) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.pieces) or None}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if calls := [_call(*call) for call in self.calls]:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": {**message, **self.message}, "finish_reason": self.finish_reason}
        exchange.send_json({**COMPLETION, "choices": [choice]} | ({"usage": self.usage} if self.usage else {}))

    def _stream(self, exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.send_delta({"role": "assistant", "content": ""})
        if self.reasoning:
            exchange.send_delta({"reasoning_content": self.reasoning})
        for index, piece in enumerate(self.pieces):
            exchange.send_delta({"content": piece})
            if index == 0 and self.release is not None:
                assert self.release.wait(60)
        for fragment in _fragments(list(self.calls)):
            exchange.send_delta({"tool_calls": [fragment]})
        exchange.send_delta({}, self.finish_reason)
        if self.usage and exchange.body.get("stream_options", {}).get("include_usage"):
            exchange.send_line("data: " + json.dumps({**CHUNK, "choices": [], "usage": self.usage}))
        exchange.send_line("data: [DONE]")
        exchange.end_stream()


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _fragments(calls: list[tuple[str, str, str]]) -> Iterable[dict[str, Any]]:
    """Iterate over stream fragments: ids and names first, then three characters of each call's arguments in turn."""
    for index, (call_id, name, _) in enumerate(calls):
        yield {"index": index, **_call(call_id, name, "")}
    for start in range(0, max((len(arguments) for _, _, arguments in calls), default=0), 3):
        for index, (_, _, arguments) in enumerate(calls):
            if part := arguments[start : start + 3]:
                yield {"index": index, "function": {"arguments": part}}


def error(status: int, message: str, *, code: str = "error", headers: dict[str, str] | None = None) -> Answer:
    """Return an error answer in OpenAI's form."""
    body = {"error": {"message": message, "type": code, "code": code, "param": None}}
    return lambda exchange: exchange.send_json(body, status, headers)


def raw(content: str, content_type: str = "application/json", status: int = 200) -> Answer:
    """Return an answer with any content."""
    return lambda exchange: exchange.send_whole(status, content_type, content.encode())


def lines(*events: str) -> Answer:
    """Return a stream of exactly these lines that ends properly."""

    def answer(exchange: Exchange) -> None:
        exchange.start_stream()
        for event in events:
            exchange.send_line(event)
        exchange.end_stream()

    return answer


def cut(text: str, *, clean: bool = False) -> Answer:
    """Return a stream that breaks off after `text`. With `clean`, the HTTP body ends, but without a finish_reason."""

    def answer(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.send_delta({"role": "assistant", "content": text})
        if clean:
            exchange.end_stream()

    return answer


def stall(text: str) -> Answer:
    """Return a stream that sends `text` and then stalls."""

    def answer(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.send_delta({"role": "assistant", "content": text})
        exchange.wait_for_hang_up()

    return answer


def silent(exchange: Exchange) -> None:
    """Send no answer."""
    exchange.wait_for_hang_up()


class OpenAIServer:
    """A server that sends the next of `answers` for each request, and repeats the last one when none are left.

    `requests` and `headers` (names in lower case) record the requests. `client_gone` is set when a client closes the
    connection before the answer is complete.
    """

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.client_gone = threading.Event()
        self._answers = list(answers)
        self._last: Answer = Reply()
        self._lock = threading.Lock()
        self._http = _HTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a model call to this server."""
        return {"api_base": self.url, "api_key": "sk-test-secret-0123456789"}

    def answer(self, *answers: Answer) -> None:
        """Add answers to the script."""
        with self._lock:
            self._answers.extend(answers)

    def next_answer(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            if self._answers:
                self._last = self._answers.pop(0)
            return self._last

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def __enter__(self) -> OpenAIServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an answer that waits for its client must not hold up the tests

    def __init__(self, owner: OpenAIServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the errors of clients that close the connection, which tests cause on purpose."""
