"""The parts of requests that endpoints reject, and requests without them. Pure functions, except for `Refusals`.

Cache marks save money, and returned reasoning makes answers better, but a call must not fail because of them. Images
and files that an endpoint cannot read would make every later call of the session fail, so a text replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnesis.redaction import get_logger

logger = get_logger(__name__)

CACHE_MARKS, REASONING, IMAGES, FILES = "cache marks", "reasoning", "images", "files"
SCHEMA = "response schema"
_MEDIA_TYPES = {IMAGES: "image_url", FILES: "file"}
_REASONING_FIELDS = ("thinking_blocks", "reasoning_details", "reasoning_items")
# An endpoint that does not know marks names the field, reports an extra field, or wants a string as content.
_MARKS_REJECTED = re.compile(
    r"(?i)cache[_ -]?(control|point)|prompt.?cach|ephemeral|extra (inputs|fields|propert)|unknown (field|param|name|argument)"
    r"|unrecognized|unexpected (field|keyword|property)|additional propert|(content|input).{0,80}\b(string|str)\b"
)
# platform.claude.com, preserved-thinking; anthropics/anthropic-sdk-python#1598; google-gemini/gemini-cli#13467.
_REASONING_REJECTED = re.compile(
    r"(?i)invalid .?signature|bound to a different conversation|thinking.{0,40}cannot be modified|thought.?signature"
    r"|reasoning_details"
    # OpenAI's Responses API: anomalyco/opencode#5104; can1357/oh-my-pi#50; vercel/ai#7099; continuedev/continue#11994.
    r"|encrypted content.{0,80}could not be (verified|decrypted)|invalid_encrypted_content|item with id 'rs_.{0,80}not found"
    r"|of type 'reasoning' was provided without|without its required 'reasoning' item"
)
# esengine/DeepSeek-Reasonix#7859; danny-avila/LibreChat#6333; HartsyAI/SwarmUI-MagicPromptExtension#50 (a 404 of OpenRouter);
# browser-use/browser-use#159; thinking-machines-lab/tinker-feedback#83.
_IMAGES_REJECTED = re.compile(
    r"(?i)image_url.{0,60}(only supported|not supported|expected .{0,3}text)|support image input"
    r"|does not (accept|support) (the )?(image|vision)|images? (input )?(is|are) not supported|did not match any variant"
    r"|invalid type: sequence, expected a string|input should be 'text'|content must be a string"
)
# litellm, main.py; the wording of others varies.
_FILES_REJECTED = re.compile(
    r"(?i)does not (accept|support) (pdf|file|document)|(pdf|file|document)s? (input )?(is|are) not supported"
    r"|(invalid|unknown|unsupported) .{0,40}\bfile\b"
)
_BAD_REQUEST, _NOT_FOUND = (400, 422), 404
_SCHEMA_REJECTED = re.compile(r"(?i)response.?format|json.?schema|structured.?output|guided|grammar")
SCHEMA_NAME = "answer"
"""The name of schemas that mnesis sends. The messages contain the same schema, so it can be omitted. Schemas of callers
are kept."""
# Bedrock answers 400 (cline/cline#2064) or 403 (strands-agents/harness-sdk#1807) where a model has no prompt cache.
_CACHING_FORBIDDEN, _FORBIDDEN = re.compile(r"(?i)did not allow prompt caching"), (401, 403)
_ADDRESS_ARGUMENTS = ("api_base", "base_url", "aws_bedrock_runtime_endpoint", "aws_region_name", "vertex_location")


def find_refusal(arguments: Mapping[str, Any], error: BaseException) -> str | None:
    """Return the dispensable part of a request that the provider's error is about, or None."""
    text, status = str(error), getattr(error, "status_code", None)
    if status in _FORBIDDEN and _has_marks(arguments) and _CACHING_FORBIDDEN.search(text):
        return CACHE_MARKS
    if status not in _BAD_REQUEST:
        return IMAGES if status == _NOT_FOUND and _sends_media(arguments, IMAGES, _IMAGES_REJECTED, text) else None
    if _has_marks(arguments) and _MARKS_REJECTED.search(text):
        return CACHE_MARKS
    if _has_reasoning(arguments) and _REASONING_REJECTED.search(text):
        return REASONING
    if _sends_media(arguments, FILES, _FILES_REJECTED, text):
        return FILES
    if _sends_media(arguments, IMAGES, _IMAGES_REJECTED, text):
        return IMAGES
    return SCHEMA if _has_own_schema(arguments) and _SCHEMA_REJECTED.search(text) else None


def _sends_media(arguments: Mapping[str, Any], part: str, rejected: re.Pattern[str], error_text: str) -> bool:
    """Return whether a request has media of a kind, and the error is about them."""
    kind = _MEDIA_TYPES[part]
    return bool(rejected.search(error_text)) and any(
        block.get("type") == kind for message in arguments["messages"] for block in _blocks(message)
    )


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def without(part: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call without cache marks, returned reasoning, images, files or the schema.

    A tool loop that has lost its opening thinking also continues without new thinking, as Claude requires (platform.claude.com,
    extended-thinking).
    """
    if part == SCHEMA:
        return {name: value for name, value in arguments.items() if name != "response_format"}
    messages = arguments["messages"]
    if part in _MEDIA_TYPES:
        return {**arguments, "messages": [_name_media(message, part) for message in messages]}
    if part == REASONING:
        kept = [{k: v for k, v in message.items() if k not in _REASONING_FIELDS} for message in messages]
        is_thinking_lost = _is_in_tool_loop(messages) and any("thinking_blocks" in message for message in messages)
        dropped = ("thinking", "reasoning_effort") if is_thinking_lost else ()
        return {**{name: value for name, value in arguments.items() if name not in dropped}, "messages": kept}
    changed = {**arguments, "messages": [_without_marks(message) for message in messages]}
    return changed | ({"tools": _strip_marks(arguments["tools"])} if arguments.get("tools") else {})


def _name_media(message: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return a message with a text instead of each image, or instead of each file. Nothing but text becomes a
    string.
    """
    blocks = _blocks(message)
    if not any(block.get("type") == _MEDIA_TYPES[part] for block in blocks):
        return dict(message)
    named = [
        {"type": "text", "text": _media_name(block)} if block.get("type") == _MEDIA_TYPES[part] else dict(block)
        for block in blocks
    ]
    if all(set(block) == {"type", "text"} for block in named):
        return {**message, "content": "\n\n".join(block["text"] for block in named)}
    return {**message, "content": named}


def _media_name(block: Mapping[str, Any]) -> str:
    if block["type"] == "file":
        return f"[file {block['file'].get('filename') or 'without a name'}, which this model cannot read]"
    return "[image, which this model cannot see]"


def without_reasoning_items(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call without the reasoning items of the Responses API."""
    messages = [{k: v for k, v in message.items() if k != "reasoning_items"} for message in arguments["messages"]]
    return {**arguments, "messages": messages}


def _has_marks(arguments: Mapping[str, Any]) -> bool:
    return _contains_mark(arguments["messages"]) or _contains_mark(arguments.get("tools"))


def _contains_mark(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "cache_control" in value or any(_contains_mark(item) for item in value.values())
    return isinstance(value, list) and any(_contains_mark(item) for item in value)


def _has_reasoning(arguments: Mapping[str, Any]) -> bool:
    return any(name in message for message in arguments["messages"] for name in _REASONING_FIELDS)


def _has_own_schema(arguments: Mapping[str, Any]) -> bool:
    schema = (arguments.get("response_format") or {}).get("json_schema") or {}
    return bool(schema.get("name") == SCHEMA_NAME)


def _is_in_tool_loop(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether tool results follow the last reply."""
    for message in reversed(messages):
        if message["role"] in ("tool", "assistant"):
            return bool(message["role"] == "tool")
    return False


def _without_marks(message: Mapping[str, Any]) -> dict[str, Any]:
    stripped: dict[str, Any] = _strip_marks(message)
    blocks = stripped.get("content")
    if isinstance(blocks, list) and len(blocks) == 1 and set(blocks[0]) == {"type", "text"}:
        stripped["content"] = blocks[0]["text"]
    return stripped


def _strip_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strip_marks(item) for key, item in value.items() if key != "cache_control"}
    return [_strip_marks(item) for item in value] if isinstance(value, list) else value


@dataclass
class Refusals:
    """The parts that each endpoint rejected, for the life of the process. An endpoint is a model and its address."""

    _parts: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments without the parts that their endpoint rejected before."""
        reduced = dict(arguments)
        for part in sorted(self._parts.get(_endpoint(arguments), ())):
            reduced = without(part, reduced)
        return reduced

    def add(self, arguments: Mapping[str, Any], part: str) -> None:
        """Remember that the endpoint rejects a part. Warns once per endpoint and part."""
        known = self._parts.setdefault(_endpoint(arguments), set())
        if part not in known:
            known.add(part)
            model, address = _endpoint(arguments)
            logger.warning(
                "%s%s rejected the %s of a request; they are no longer sent to it%s",
                model,
                f" at {address}" if address else "",
                part,
                "; set SessionConfig(prompt_cache='off') to avoid the first failure" if part == CACHE_MARKS else "",
            )


def _endpoint(arguments: Mapping[str, Any]) -> tuple[str, str]:
    addresses = (arguments.get(name) for name in _ADDRESS_ARGUMENTS)
    return str(arguments.get("model")), str(next((address for address in addresses if address), ""))
