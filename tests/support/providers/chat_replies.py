"""Bodies, stream parts and errors of chat completions APIs, and of Ollama's `/api/chat`.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.providers.strict_server import Failure, Json, ProviderRequest, Reply, dump, fragments


def event_line(value: Json) -> str:
    """Return a JSON value as a server-sent event."""
    return f"data: {dump(value)}\n\n"


def message_deltas(reply: Reply, calls: list[Json], reasoning: Json) -> Iterator[Json]:
    """Yield the deltas of a streamed message. A cut reply ends after its text, without its calls."""
    yield {"role": "assistant", "content": ""}
    for name in ("reasoning", "reasoning_content"):
        yield from ({name: part} for part in fragments(reasoning.get(name, "")))
    if "reasoning_details" in reasoning:
        yield {"reasoning_details": reasoning["reasoning_details"]}
    yield from ({"content": part} for part in fragments(reply.text))
    for index, call in enumerate(calls if not reply.is_cut else []):
        arguments = call["function"]["arguments"]
        start = {**call, "function": {**call["function"], "arguments": ""}}
        yield {"tool_calls": [{"index": index, **start}]}
        for part in fragments(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def ollama_body(request: ProviderRequest, reply: Reply, usage: Json) -> Json:
    """Return the body of a reply of `/api/chat`."""
    message: Json = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        message["thinking"] = reply.thinking
    if reply.calls:
        message["tool_calls"] = [{"function": {"name": c.name, "arguments": c.arguments}} for c in reply.calls]
    counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
    head = {"model": request.model, "created_at": "2025-01-01T00:00:00Z", "done": True}
    return head | {"done_reason": reply.finish_reason or "stop", "message": message, **counts}


def ollama_lines(request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str]:
    """Yield the lines of a streamed reply of `/api/chat`, each a JSON object."""
    last = ollama_body(request, reply, usage)
    parts = [{"thinking": part, "content": ""} for part in fragments(reply.thinking)]
    parts += [{"content": part} for part in fragments(reply.text)]
    head = {"model": request.model, "created_at": last["created_at"], "done": False}
    for part in parts:
        yield dump(head | {"message": {"role": "assistant", **part}}) + "\n"
    if not reply.is_cut:
        calls = {"tool_calls": last["message"]["tool_calls"]} if reply.calls else {}
        yield dump(last | {"message": {"role": "assistant", "content": "", **calls}}) + "\n"


def error_body(flavour: str, failure: Failure) -> Json:
    """Return the body of an error in the form of the flavour."""
    if flavour == "ollama":
        return {"error": failure.message}
    if flavour == "xai":
        return {"code": "Client specified an invalid argument", "error": failure.message}
    kind = "invalid_request_error" if failure.status < 429 else "server_error"
    if flavour in ("mistral", "alternating"):
        return {"object": "error", "message": failure.message, "type": kind, "param": None, "code": failure.status}
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": None}}
