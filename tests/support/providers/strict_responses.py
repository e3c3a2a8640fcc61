"""OpenAI's Responses API on loopback, as OpenAI, Azure and xAI serve it: its refusals, reasoning items and streams.

litellm reaches it for models named `responses/…`, and for models whose chat completions do not accept tools while they reason.
The servers keep what they answered, as with `store: true`: a reasoning item goes back by its id, its encrypted content, or both.

| rule | holds for | source |
|---|---|---|
| unknown-field | all | openai-python, types/responses/response_input_item_param.py |
| reasoning-orphan | all | vercel/ai#7099; openclaw/openclaw#19582; continuedev/continue#8933 |
| reasoning-unknown | all | anomalyco/opencode#5104; can1357/oh-my-pi#50 |
| output-missing | all | openai/openai-agents-python#673; router-for-me/CLIProxyAPI#2368 |
| output-without-call | all | continuedev/continue#10092; can1357/oh-my-pi#106 |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    StrictServer,
    count_tokens,
    dump,
    fragments,
)

BOOK = RuleBook()
rule = BOOK.rule

# litellm's route for each flavour, and the path below the server's URL that the route expects.
ROUTES = {"responses": ("openai/", "/v1"), "azure-responses": ("azure/", ""), "xai-responses": ("xai/", "/v1")}
ITEM_FIELDS = {
    "message": {"type", "role", "content", "id", "status", "phase"},
    "reasoning": {"type", "id", "summary", "encrypted_content", "content", "status"},
    "function_call": {"type", "call_id", "name", "arguments", "id", "status"},
    "function_call_output": {"type", "call_id", "output", "id", "status"},
}


@dataclass
class Subject:
    """A request and the server that judges it."""

    server: StrictResponses
    request: ProviderRequest

    @property
    def items(self) -> list[Json]:
        return [{"type": "message", **item} for item in self.request.body.get("input") or []]

    def ids(self, kind: str) -> list[str]:
        return [str(item.get("call_id")) for item in self.items if item["type"] == kind]


@rule("unknown-field", "openai-python, types/responses/response_input_item_param.py")
def _unknown_field(subject: Subject) -> Iterator[str]:
    for index, item in enumerate(subject.items):
        for name in sorted(set(item) - ITEM_FIELDS.get(item["type"], set())):
            yield f"Unknown parameter: 'input[{index}].{name}'."


@rule("reasoning-orphan", "vercel/ai#7099; openclaw/openclaw#19582; continuedev/continue#8933")
def _reasoning_orphan(subject: Subject) -> Iterator[str]:
    for item, following in pairwise([*subject.items, {"type": "end"}]):
        is_own = following.get("role") == "assistant" or following["type"] in ("reasoning", "function_call")
        if item["type"] == "reasoning" and not is_own:
            yield f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."


@rule("reasoning-unknown", "anomalyco/opencode#5104; can1357/oh-my-pi#50")
def _reasoning_unknown(subject: Subject) -> Iterator[str]:
    for item in subject.items:
        if item["type"] != "reasoning":
            continue
        encrypted = item.get("encrypted_content")
        if encrypted and encrypted not in subject.server.issued.values():
            yield f"The encrypted content for item {item.get('id')} could not be verified."
        elif not encrypted and item.get("id") not in subject.server.issued:
            yield f"Item with id '{item.get('id')}' not found."


@rule("output-missing", "openai/openai-agents-python#673; router-for-me/CLIProxyAPI#2368")
def _output_missing(subject: Subject) -> Iterator[str]:
    answered = subject.ids("function_call_output")
    for call_id in subject.ids("function_call"):
        if call_id not in answered:
            yield f"No tool output found for function call {call_id}."


@rule("output-without-call", "continuedev/continue#10092; can1357/oh-my-pi#106")
def _output_without_call(subject: Subject) -> Iterator[str]:
    called: set[str] = set()
    for item in subject.items:
        if item["type"] == "function_call":
            called.add(str(item.get("call_id")))
        elif item["type"] == "function_call_output" and item.get("call_id") not in called:
            yield f"No tool call found for function call output with call_id {item.get('call_id')}."


class StrictResponses(StrictServer):
    """POST …/responses. Use with litellm as `model(name)` and `**options`."""

    book = BOOK

    def __init__(self, flavour: str, *script: Reply | Failure, route: str = "responses/", **options: Any) -> None:
        self.flavour, self.api_path, self._route = flavour, ROUTES[flavour][1], route
        self.issued: dict[str, str] = {}
        super().__init__(*script, **options)

    @property
    def options(self) -> Json:
        return super().options | ({"api_version": "2025-04-01-preview"} if self.flavour.startswith("azure") else {})

    def model(self, name: str = "gpt-5-mini") -> str:
        return ROUTES[self.flavour][0] + self._route + name

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Refuse any other path."""
        path = request.path.split("?")[0]
        return None if path.endswith("/responses") else Response(404, self.error(Failure(404, f"no such path: {path}")))

    def inspect(self, request: ProviderRequest) -> Subject:
        return Subject(self, request)

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        tokens, output = count_tokens(request.body), reply.output_tokens + reply.thinking_tokens
        return {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reply.thinking_tokens},
            "total_tokens": tokens + output,
        }

    def _items(self, reply: Reply) -> list[Json]:
        items: list[Json] = []
        if reply.thinking:
            item_id = self.mint("rs_")
            self.issued[item_id] = self.sign(reply.thinking + item_id)
            summary = [{"type": "summary_text", "text": reply.thinking}]
            encrypted = {"encrypted_content": self.issued[item_id]}
            items.append({"type": "reasoning", "id": item_id, "summary": summary, **encrypted})
        if reply.text:
            content = [{"type": "output_text", "text": reply.text, "annotations": []}]
            items.append({"type": "message", "id": self.mint("msg_"), "role": "assistant", "content": content})
        for call in reply.calls:
            ids = {"id": self.mint("fc_"), "call_id": call.id or self.mint("call_")}
            items.append({"type": "function_call", **ids, "name": call.name, "arguments": dump(call.arguments)})
        return [{"status": "completed", **item} if item["type"] != "reasoning" else item for item in items]

    def _response(self, request: ProviderRequest, items: list[Json], usage: Json | None, status: str) -> Json:
        fixed = {"error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "tools": []}
        fixed |= {"parallel_tool_calls": True, "tool_choice": "auto", "temperature": 1.0, "top_p": 1.0}
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": request.model, "status": status}
        return {**head, "output": items, "usage": usage, **fixed}

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        return self._response(request, self._items(reply), usage, "completed")

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        items = self._items(reply)
        yield _event("response.created", response=self._response(request, [], None, "in_progress"))
        for index, item in enumerate(items):
            place = {"output_index": index, "item_id": item["id"]}
            yield _event("response.output_item.added", output_index=index, item=_opened(item))
            yield from _piece_events(item, place)
            if reply.is_cut and item["type"] == "message":
                return
            yield _event("response.output_item.done", output_index=index, item=item)
        yield _event("response.completed", response=self._response(request, items, usage, "completed"))

    def error(self, failure: Failure) -> Json:
        kind = "invalid_request_error" if failure.status < 429 else "server_error"
        return {"error": {"message": failure.message, "type": kind, "param": "input", "code": None}}


def _opened(item: Json) -> Json:
    """Return an item as it is when its pieces begin to arrive."""
    empty = {"reasoning": {"summary": []}, "message": {"content": []}, "function_call": {"arguments": ""}}
    return {**item, **empty[item["type"]], **({} if item["type"] == "reasoning" else {"status": "in_progress"})}


def _piece_events(item: Json, place: Json) -> Iterator[str]:
    if item["type"] == "function_call":
        for piece in fragments(item["arguments"]):
            yield _event("response.function_call_arguments.delta", delta=piece, **place)
        yield _event("response.function_call_arguments.done", arguments=item["arguments"], name=item["name"], **place)
        return
    is_text = item["type"] == "message"
    text = item["content"][0]["text"] if is_text else item["summary"][0]["text"]
    kind = "response.output_text" if is_text else "response.reasoning_summary_text"
    part = {"content_index": 0} if is_text else {"summary_index": 0}
    for piece in fragments(text):
        yield _event(f"{kind}.delta", delta=piece, **place, **part)
    yield _event(f"{kind}.done", text=text, **place, **part)


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {dump({'type': kind, 'sequence_number': 0, **fields})}\n\n"
