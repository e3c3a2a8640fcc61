"""Messages as Anthropic content blocks. Pure functions, no I/O.

The system prompt is not part of the list, roles alternate, and tool results are sent in user messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mnesis.formats.openai import EMPTY_MESSAGE, UNNAMED_TOOL, is_returnable, replace_lone_surrogates
from mnesis.formats.origin import rewrite_calls
from mnesis.formats.step import OPENING_TEXT, Step
from mnesis.formats.text import part_text, result_text
from mnesis.models.dialects import find_dialect
from mnesis.models.message import FilePart, ImagePart, Message, MessagePart, ReasoningPart, ToolPart, ToolResultPart

ANTHROPIC = find_dialect("", "anthropic")
THINKING = frozenset({"thinking", "redacted_thinking"})

Block = dict[str, Any]


def anthropic_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return the messages as Anthropic messages, in order.

    The first is a user message, and neighbors of one role are merged.
    """
    return merge_steps(anthropic_steps(rewrite_calls(list(messages), ANTHROPIC)))


def anthropic_steps(messages: Iterable[Message]) -> list[Step]:
    """Return the messages as steps of Anthropic blocks. Tool results have the role "tool" until they are merged."""
    steps: list[Step] = []
    for message in messages:
        tokens = message.token_count
        for role, blocks in _split_by_role(message):
            steps.append(Step({"role": role, "content": blocks}, tokens, message.is_summary))
            tokens = 0
    return steps


def merge_steps(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Return steps as messages whose roles alternate, beginning with the user."""
    merged: list[dict[str, Any]] = []
    for step in steps:
        role = "user" if step.role == "tool" else step.role
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(step.message["content"])
        else:
            merged.append({"role": role, "content": list(step.message["content"])})
    if merged and merged[0]["role"] == "assistant":
        merged.insert(0, {"role": "user", "content": [_text(OPENING_TEXT)]})
    return [replace_lone_surrogates(message) for message in merged]


def _split_by_role(message: Message) -> Iterable[tuple[str, list[Block]]]:
    if message.role != "assistant":
        blocks = [block for part in message.parts if (block := _content_block(part)) is not None]
        if message.role == "system":
            blocks = [_text(f"[System message]\n{b['text']}") if b["type"] == "text" else b for b in blocks]
        yield "tool" if message.role == "tool" else "user", blocks or [_text(EMPTY_MESSAGE)]
        return
    assistant_blocks: list[Block] = []
    results: list[Block] = []
    call_count = 0
    for part in message.parts:
        block = _content_block(part)
        if results and call_count == len(results) and block is not None and block["type"] != "tool_use":
            yield "assistant", assistant_blocks
            yield "tool", results
            assistant_blocks, results, call_count = [], [], 0
        if block is not None:
            assistant_blocks.append(block)
        if isinstance(part, ToolPart):
            call_count += 1
            results += [_tool_result(part.result())] if part.has_result else []
    if assistant_blocks or not results:
        yield "assistant", assistant_blocks or [_text(EMPTY_MESSAGE)]
    if results:
        yield "tool", results


def _content_block(part: MessagePart) -> Block | None:
    match part:
        case ToolPart():
            return {
                "type": "tool_use",
                "id": part.tool_call_id,
                "name": part.tool_name or UNNAMED_TOOL,
                "input": part.input,
            }
        case ToolResultPart():
            return _tool_result(part)
        case ReasoningPart():
            return dict(part.provider) if part.provider and is_returnable(part.provider, THINKING) else None
        case ImagePart():
            return {"type": "image", "source": _image_source(part)}
        case FilePart(data=str() as data):
            source = {"type": "base64", "media_type": part.media_type, "data": data}
            return {"type": "document", "source": source, "title": part.name}
    text = part_text(part)
    return _text(text) if text.strip() else None


def _image_source(part: ImagePart) -> dict[str, Any]:
    if part.url and not part.url.startswith("data:"):
        return {"type": "url", "url": part.url}
    if part.data is not None:
        return {"type": "base64", "media_type": part.media_type, "data": part.data}
    head, _, data = (part.url or "").partition(",")
    media_type = head.removeprefix("data:").partition(";")[0] or part.media_type
    return {"type": "base64", "media_type": media_type, "data": data}


def _tool_result(part: ToolResultPart) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": part.tool_call_id, "content": _result_content(part)}
    if part.is_error:
        block["is_error"] = True
    return block


def _result_content(part: ToolResultPart) -> str | list[Block]:
    """Return the content of a result. Anthropic accepts text, images and documents in it
    (https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use).
    """
    blocks = [block for output in part.output_parts if (block := _content_block(output)) is not None]
    if blocks:
        return blocks
    text = result_text(part)
    return text if text.strip() else EMPTY_MESSAGE


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
