"""The base of the strict provider servers: HTTP on loopback, a reply script, named rules and a clock.

A subclass declares its rules with `RuleBook.rule` and says how its provider counts tokens and spells replies.
Each rule names its source: provider documentation, an SDK, litellm's source, or a public issue with the provider's own
error text. A rule without a sufficient source is off until a test enables it. A message quotes the provider where the source does;
otherwise its wording is ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

CHARS_PER_TOKEN = 4  # a stand-in for the provider's tokenizer; the servers only need a stable count
FRAGMENT_CHARS = 7  # streams send texts and arguments in pieces of this length

Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A tool call of a scripted reply. Without an id, the server mints one in its provider's form."""

    name: str
    arguments: Json = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """A good reply. `is_cut` ends a stream after the text, without a finish reason or usage."""

    text: str = "OK."
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    is_cut: bool = False

    @property
    def output_tokens(self) -> int:
        return sum(count_tokens(part) for part in (self.text, *self.calls) if part)

    @property
    def thinking_tokens(self) -> int:
        return count_tokens(self.thinking) if self.thinking else 0


@dataclass(frozen=True)
class Failure:
    """An error of the provider: 429, 529, 500 or any other status."""

    status: int
    message: str = "The provider failed."
    headers: dict[str, str] = field(default_factory=dict)


Answer = Reply | Failure


@dataclass(frozen=True)
class ProviderRequest:
    """One request as the server received it. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: Json
    raw: bytes = b""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[Json]:
        return list(self.body.get("messages") or [])


@dataclass(frozen=True)
class Rejection:
    """A request that broke a rule: the rule's name and the provider's error message."""

    rule: str
    message: str
    request: ProviderRequest


@dataclass(frozen=True)
class Response:
    """What the server sends: a JSON body, or the events of a stream."""

    status: int
    content: Json | list[str | bytes]
    headers: dict[str, str] = field(default_factory=dict)


Check = Callable[[Any], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """A named reason to refuse a request, with its source. `flavours` None means every flavour."""

    name: str
    source: str
    check: Check
    flavours: frozenset[str] | None = None
    is_default: bool = True
    status: int = 400

    def applies_to(self, flavour: str) -> bool:
        return self.is_default and (self.flavours is None or flavour in self.flavours)


class RuleBook:
    """The rules of one server, in the order in which they are checked."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = list(rules)

    def rule(
        self,
        name: str,
        source: str,
        *,
        flavours: Iterable[str] | None = None,
        is_default: bool = True,
        status: int = 400,
    ) -> Callable[[Check], Check]:
        """Register a check. It yields one error message for each fault it finds."""

        def register(check: Check) -> Check:
            only = None if flavours is None else frozenset(flavours)
            self.rules.append(Rule(name, source, check, only, is_default, status))
            return check

        return register


class ManualClock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def dump(value: Any) -> str:
    """Serialize as sent: the order of keys counts, as it does for a provider's prefix cache."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def count_tokens(value: Any) -> int:
    text = value if isinstance(value, str) else dump(value.__dict__ if isinstance(value, ToolCall) else value)
    return -(-len(text) // CHARS_PER_TOKEN)


def fragments(text: str) -> list[str]:
    return [text[start : start + FRAGMENT_CHARS] for start in range(0, len(text), FRAGMENT_CHARS)]


def common_prefix_chars(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


class StrictServer:
    """A provider API on 127.0.0.1. The script's answers are used in order; after them every reply is `Reply()`.

    `requests` holds what was accepted, `rejections` what broke a rule. A rejected request uses no answer of the script.
    `enable` and `disable` name rules; an enabled rule holds for every flavour.
    """

    book: ClassVar[RuleBook]
    flavour: str = ""
    content_type = "text/event-stream"
    api_path = ""

    def __init__(
        self, *script: Answer, enable: Iterable[str] = (), disable: Iterable[str] = (), secret: str | None = None
    ) -> None:
        self.clock = ManualClock()
        self.requests: list[ProviderRequest] = []
        self.rejections: list[Rejection] = []
        self.usages: list[Json] = []
        self.pending_answers = list(script)
        self._rules = self._choose_rules(frozenset(enable), frozenset(disable))
        self._secret = (secret or type(self).__name__ + self.flavour).encode()
        self._minted = 0
        self._lock = threading.Lock()
        self._http = _HTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _choose_rules(self, enable: frozenset[str], disable: frozenset[str]) -> list[Rule]:
        names = {rule.name for rule in self.book.rules}
        if unknown := (enable | disable) - names:
            raise ValueError(f"no such rules: {sorted(unknown)!r}; expected some of {sorted(names)!r}")
        active = [rule for rule in self.book.rules if rule.name in enable or rule.applies_to(self.flavour)]
        return [rule for rule in active if rule.name not in disable]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def options(self) -> Json:
        """Arguments of a litellm call that lead here. litellm itself does not retry."""
        return {"api_base": self.url + self.api_path, "api_key": "sk-loopback", "num_retries": 0, "max_retries": 0}

    def script(self, *answers: Answer) -> None:
        """Add answers to the end of the script."""
        with self._lock:
            self.pending_answers.extend(answers)

    def has_rule(self, name: str) -> bool:
        return any(rule.name == name for rule in self._rules)

    def sign(self, text: str) -> str:
        """Return this server's signature of a text. Another server's signatures differ."""
        return base64.b64encode(hmac.new(self._secret, text.encode(), hashlib.sha256).digest()).decode()

    def has_signed(self, text: str, signature: object) -> bool:
        return isinstance(signature, str) and hmac.compare_digest(self.sign(text).encode(), signature.encode())

    def mint(self, prefix: str, length: int = 24) -> str:
        """Return a fresh id of letters and digits: stable from run to run, different for each call."""
        self._minted += 1
        digest = hashlib.sha256(f"{self.flavour}{self._minted}".encode()).hexdigest()
        return prefix + digest[:length]

    def respond(self, request: ProviderRequest) -> Response:
        """Check a request, account for it and answer it with the script's next answer."""
        with self._lock:
            if (other := self.side_request(request)) is not None:
                return other
            if fault := self._first_fault(request):
                return Response(fault.status, self.error(fault), fault.headers)
            self.requests.append(request)
            chosen = self.pending_answers.pop(0) if self.pending_answers else Reply()
            if isinstance(chosen, Failure):
                return Response(chosen.status, self.error(chosen), chosen.headers)
            usage = self.account(request, chosen)
            self.usages.append(usage)
            if self.is_stream(request):
                return Response(200, list(self.stream(request, chosen, usage)))
            return Response(200, self.whole(request, chosen, usage))

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Answer a request that is not for a completion, such as a look-up of a model. None means a completion."""
        return None

    def _first_fault(self, request: ProviderRequest) -> Failure | None:
        subject = self.inspect(request)
        for rule in self._rules:
            for message in rule.check(subject):
                self.rejections.append(Rejection(rule.name, message, request))
                return Failure(rule.status, message)
        return None

    def inspect(self, request: ProviderRequest) -> Any:
        """Return what the checks see: the server and the request, unless a subclass prepares more."""
        raise NotImplementedError

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        raise NotImplementedError

    def is_stream(self, request: ProviderRequest) -> bool:
        return bool(request.body.get("stream"))

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        raise NotImplementedError

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        """Yield the stream in the provider's form, ready to be sent."""
        raise NotImplementedError

    def error(self, failure: Failure) -> Json:
        raise NotImplementedError

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def __enter__(self) -> StrictServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        owner = self.server.owner
        body = json.loads(raw) if raw.startswith(b"{") else {}
        response = owner.respond(ProviderRequest(self.path, headers, body, raw))
        if isinstance(response.content, list):
            self._send_stream(response.content, owner.content_type)
        else:
            self._send(response.status, response.content, response.headers)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log."""

    def _send(self, status: int, body: Json, headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        length = {"Content-Length": str(len(content))}
        for name, value in {"Content-Type": "application/json", "Connection": "close", **length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _send_stream(self, events: Iterable[str | bytes], content_type: str) -> None:
        self.send_response(200)
        fields = {"Content-Type": content_type, "Transfer-Encoding": "chunked", "Connection": "close"}
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        for event in events:
            data = event if isinstance(event, bytes) else event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: StrictServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""


def blocks_of(content: Any) -> Sequence[Json]:
    """Return content as blocks; a string is one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])
