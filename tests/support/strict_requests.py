"""Requests to the strict provider servers, sent without a client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.support.providers.strict_server import StrictServer

Json = dict[str, Any]


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": WEATHER}}


CHAT_MODELS = {
    "openai": "gpt-4o",
    "azure": "gpt-4o",
    "openrouter": "anthropic/claude-sonnet-4.5",
    "xai": "grok-4",
    "deepseek": "deepseek-reasoner",
    "moonshot": "kimi-k2-thinking",
    "mistral": "mistral-large-latest",
    "alternating": "gemma-3-12b-it",
    "ollama": "qwen3:8b",
}


def post(server: StrictServer, path: str, body: Json, headers: Json | None = None) -> tuple[int, Json]:
    """Send a request without any client's help."""
    fields = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), fields)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def chat(*messages: Json, flavour: str = "openai", **fields: Any) -> Callable[[Any], Json]:
    model = CHAT_MODELS[flavour]
    return lambda server: {"model": model, "messages": list(messages), "stream": False, **fields}


def user(text: Any = "Hello") -> Json:
    return {"role": "user", "content": text}


def assistant(text: Any = "Hi", **fields: Any) -> Json:
    return {"role": "assistant", "content": text, **fields}


def tools(**function: Any) -> list[Json]:
    return [{"type": "function", "function": {**TOOL["function"], **function}}]


def text(value: str, **fields: Any) -> Json:
    return {"type": "text", "text": value, **fields}


def tool_use(call_id: str = "toolu_1", **fields: Any) -> Json:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": {}, **fields}


def tool_result(call_id: str = "toolu_1", content: Any = "Sunny", **fields: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def claude(*messages: Json, **fields: Any) -> Callable[[Any], Json]:
    return lambda server: {"model": "claude-sonnet-4-5", "max_tokens": 4096, "messages": list(messages), **fields}


def mark(ttl: str | None = None) -> Json:
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}


THINKING = {"type": "enabled", "budget_tokens": 2048}


def thinking_block(server: Any) -> Json:
    return dict(server.thinking_block("Hm."))


def turn(role: str, *parts: Json) -> Json:
    return {"role": role, "parts": list(parts)}


def gemini(*contents: Json, **fields: Any) -> Callable[[Any], Json]:
    return lambda server: {"contents": list(contents), **fields}


ASK = turn("user", {"text": "Weather?"})


CALL = {"functionCall": {"name": "weather", "args": {}}}


RESPONSE = {"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}


OLD = "gemini-2.5-flash"


POINT = {"cachePoint": {"type": "default"}}


def says(role: str, *blocks: Json) -> Json:
    """Return a message of the Converse API."""
    return {"role": role, "content": list(blocks)}


def converse_calls() -> list[Json]:
    """Return a question and a reply with a tool call in the form of the Converse API."""
    call = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {}}}
    return [says("user", {"text": "Weather?"}), says("assistant", call)]


def converse_result(**fields: Any) -> Json:
    return {"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "Sunny"}], **fields}}


def converse(*messages: Json, **fields: Any) -> Callable[[Any], Json]:
    tools = {"toolConfig": {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": WEATHER}}}]}}
    return lambda server: {"messages": list(messages), **tools, **fields}


async def complete(litellm: Any, server: Any, model: str, messages: list[Json], **options: Any) -> Any:
    arguments = {"model": server.model(model), "messages": messages, "tools": [TOOL], **server.options, **options}
    return await litellm.acompletion(**arguments)
