"""Messages as Anthropic's blocks: the system prompt apart, roles alternating, results in the user's message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mnesis.formats.openai import EMPTY, NAMELESS, part_text, result_text, sendable
from mnesis.models.message import FilePart, ImagePart, Message, MessagePart, ReasoningPart, ToolPart, ToolResultPart

OPENING = "[The conversation begins with the assistant.]"
Block = dict[str, Any]


def anthropic_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages in order, beginning with the user, neighbours of one role merged."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        for role, blocks in _steps(message):
            if merged and merged[-1]["role"] == role:
                merged[-1]["content"].extend(blocks)
            else:
                merged.append({"role": role, "content": blocks})
    if merged and merged[0]["role"] == "assistant":
        merged.insert(0, {"role": "user", "content": [_text(OPENING)]})
    _make_ids_legal(merged)
    return [sendable(step) for step in merged]


def _make_ids_legal(merged: Iterable[dict[str, Any]]) -> None:
    """Anthropic takes letters, digits, `_` and `-` in call ids, and each id once in a request. What an id becomes depends
    only on what stands before it."""
    used: set[str] = set()
    legal_of: dict[str, str] = {}
    for block in (block for step in merged for block in step["content"]):
        if block["type"] == "tool_use":
            legal = _legal(block["id"]) or "call"
            while legal in used:
                legal = f"{legal}_{len(used)}"
            used.add(legal)
            legal_of[block["id"]] = block["id"] = legal
        elif block["type"] == "tool_result":
            block["tool_use_id"] = legal_of.get(block["tool_use_id"], block["tool_use_id"])


def _steps(message: Message) -> Iterable[tuple[str, list[Block]]]:
    if message.role != "assistant":
        blocks = [block for part in message.parts if (block := _block(part)) is not None]
        if message.role == "system":
            blocks = [_text(f"[System message]\n{b['text']}") if b["type"] == "text" else b for b in blocks]
        yield "user", blocks or [_text(EMPTY)]
        return
    said: list[Block] = []
    results: list[Block] = []
    calls = 0
    for part in message.parts:
        block = _block(part)
        if results and calls == len(results) and block is not None and block["type"] != "tool_use":
            yield "assistant", said
            yield "user", results
            said, results, calls = [], [], 0
        if block is not None:
            said.append(block)
        if isinstance(part, ToolPart):
            calls += 1
            results += [_result(part.result())] if part.has_result else []
    if said or not results:
        yield "assistant", said or [_text(EMPTY)]
    if results:
        yield "user", results


def _block(part: MessagePart) -> Block | None:
    match part:
        case ToolPart():
            name = _legal(part.tool_name) or NAMELESS
            return {"type": "tool_use", "id": part.tool_call_id, "name": name, "input": part.input}
        case ToolResultPart():
            return _result(part)
        case ReasoningPart():
            return dict(part.provider) if part.provider else None
        case ImagePart():
            return {"type": "image", "source": _source(part)}
        case FilePart(data=str() as data):
            source = {"type": "base64", "media_type": part.media_type, "data": data}
            return {"type": "document", "source": source, "title": part.name}
    text = part_text(part)
    return _text(text) if text.strip() else None


def _source(part: ImagePart) -> dict[str, Any]:
    if part.url and not part.url.startswith("data:"):
        return {"type": "url", "url": part.url}
    if part.data is not None:
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    head, _, data = (part.url or "").partition(",")
    media_type = head.removeprefix("data:").partition(";")[0] or part.media_type
    return {"type": "base64", "media_type": media_type, "data": data}


def _result(part: ToolResultPart) -> Block:
    text = result_text(part)
    block: Block = {
        "type": "tool_result",
        "tool_use_id": part.tool_call_id,
        "content": text if text.strip() else EMPTY,
    }
    if part.is_error:
        block["is_error"] = True
    return block


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _legal(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)
