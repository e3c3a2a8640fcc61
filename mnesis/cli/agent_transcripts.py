"""Transcripts of coding agents as messages. Pure functions, no I/O.

The formats are not documented by their makers for other programs, so every field is optional here, and a line that is
not a message is skipped. Message ids are derived from the transcript: importing a longer version adds the new messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mnesis.errors import InvalidMessageError
from mnesis.formats.blocks import parse_image_url
from mnesis.formats.parse import new_message, parse_content
from mnesis.formats.tool_output import parse_tool_output
from mnesis.models.message import (
    FilePart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
)

TITLE_CHARS = 80


@dataclass
class Transcript:
    """A conversation with a coding agent. `session_id` is the agent's own id, "" if the file has none."""

    session_id: str = ""
    folder: str = ""
    messages: list[Message] = field(default_factory=list)
    unreadable_lines: int = 0
    """Lines that are not JSON objects. The last line of a session that is running may be cut off."""
    _tool_names: dict[str, str] = field(default_factory=dict)
    """Names of tools by the ids of calls: the results of most agents name the call, not the tool."""

    @property
    def title(self) -> str:
        """The beginning of the user's first message."""
        texts = (" ".join(message.text_content().split()) for message in self.messages if message.role == "user")
        # Agents wrap text that they add, such as the environment, in tags.
        return next((text for text in texts if text and not text.startswith("<")), "")[:TITLE_CHARS]

    def records(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield a record for each line, an empty one for a line that cannot be read."""
        for line in lines:
            try:
                record = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                self.unreadable_lines += 1
            yield record if isinstance(record, dict) else {}

    def add(self, id: str, role: Role, parts: Sequence[MessagePart], timestamp: object) -> None:
        """Add a message; results of tools become a separate message. Does nothing without parts."""
        self._tool_names |= {part.tool_call_id: part.tool_name for part in parts if isinstance(part, ToolPart)}
        results = [self._with_tool_name(part) for part in parts if isinstance(part, ToolResultPart)]
        others = [part for part in parts if not isinstance(part, ToolResultPart)]
        for suffix, own_role, own_parts in (("-results", "tool", results), ("", role, others)):
            if own_parts:
                message = new_message(own_role, own_parts, id=f"{id}{suffix}")  # type: ignore[arg-type]  # a role
                self.messages.append(message.model_copy(update={"created_at": _milliseconds(timestamp)}))

    def _with_tool_name(self, result: ToolResultPart) -> ToolResultPart:
        name = result.tool_name or self._tool_names.get(result.tool_call_id, "")
        return result.model_copy(update={"tool_name": name})


def parse_claude_code(lines: Iterable[str]) -> Transcript:
    """Parse a session of Claude Code: ~/.claude/projects/FOLDER/SESSION.jsonl.

    Each line with a `message` holds an Anthropic message; a reply has a line for each of its blocks. Lines with `isMeta` are
    notes of the program, those with `isSidechain` belong to sub-agents.
    """
    transcript = Transcript()
    for record in transcript.records(lines):
        transcript.session_id = transcript.session_id or _text(record.get("sessionId"))
        transcript.folder = transcript.folder or _text(record.get("cwd"))
        message = record.get("message")
        if record.get("type") not in ("user", "assistant") or not isinstance(message, dict):
            continue
        if record.get("isMeta") or record.get("isSidechain"):
            continue
        parts = [part for block in _blocks(message.get("content")) for part in _anthropic_parts(block)]
        transcript.add(f"cc_{record.get('uuid')}", record["type"], parts, record.get("timestamp"))
    return transcript


def parse_codex(lines: Iterable[str]) -> Transcript:
    """Parse a rollout of Codex CLI: ~/.codex/sessions/YYYY/MM/DD/rollout-….jsonl.

    Lines of type `response_item` hold items of OpenAI's Responses API: messages, calls and their outputs, reasoning
    (`ResponseItem` in codex-rs/protocol/src/models.rs of openai/codex). Lines of other types repeat them for the
    screen. Before version 0.33 each line was such an item, below a first line with the id. Items have no ids, so a
    message's id contains the number of its line.
    """
    transcript = Transcript()
    for number, record in enumerate(transcript.records(lines), start=1):
        payload = record.get("payload", record)
        if not isinstance(payload, dict):
            continue
        if record.get("type") == "session_meta" or (number == 1 and payload is record):
            transcript.session_id = transcript.session_id or _text(payload.get("id"))
            transcript.folder = transcript.folder or _text(payload.get("cwd"))
        if record.get("type") == "response_item" or payload is record:
            role, parts = _codex_parts(payload)
            transcript.add(f"cx_{transcript.session_id}_{number}", role, parts, record.get("timestamp"))
    return transcript


def parse_gemini(lines: Iterable[str]) -> Transcript:
    """Parse a chat of Gemini CLI: ~/.gemini/tmp/PROJECT/chats/session-….jsonl, or the older .json.

    Read as `loadConversationRecord` in packages/core/src/services/chatRecordingService.ts of google-gemini/gemini-cli reads
    it: a later record of a message replaces the earlier one, `$rewindTo` removes a message and all after it, `$set` changes
    metadata. The older form is one object with a list of messages.
    """
    transcript, lines = Transcript(), list(lines)
    try:
        records: list[Any] = [json.loads("".join(lines))]
    except (ValueError, RecursionError):
        records = list(transcript.records(lines))
    metadata: dict[str, Any] = {}
    messages: dict[str, dict[str, Any]] = {}
    for record in (each for each in records if isinstance(each, dict)):
        if isinstance(target := record.get("$rewindTo"), str):
            ids = list(messages)
            kept = ids[: ids.index(target)] if target in ids else []
            messages = {each: messages[each] for each in kept}
        elif isinstance(record.get("id"), str):
            messages[record["id"]] = record
        else:
            metadata |= record["$set"] if isinstance(record.get("$set"), dict) else record
    for message in _list(metadata.get("messages")):
        if isinstance(message, dict) and isinstance(message.get("id"), str):
            messages.setdefault(message["id"], message)
    folders = [*_list(metadata.get("directories")), ""]
    transcript.session_id, transcript.folder = _text(metadata.get("sessionId")), _text(folders[0])
    for message_id, message in messages.items():
        _add_gemini_message(transcript, f"gm_{message_id}", message)
    return transcript


FORMATS: dict[str, Callable[[Iterable[str]], Transcript]] = {
    "claude-code": parse_claude_code,
    "codex": parse_codex,
    "gemini": parse_gemini,
}


def _blocks(content: object) -> list[Any]:
    return (
        [{"type": "text", "text": content}]
        if isinstance(content, str)
        else content
        if isinstance(content, list)
        else []
    )


def _anthropic_parts(block: object) -> list[MessagePart]:
    """Return the parts of a block. An item that cannot be interpreted is kept as its JSON."""
    if isinstance(block, dict) and block.get("type") == "text":
        return [TextPart(text=block["text"])] if _text(block.get("text")) else []
    try:
        return parse_content([block])  # type: ignore[list-item]  # checked by it
    except InvalidMessageError:
        return [TextPart(text=json.dumps(block, ensure_ascii=False))]


def _codex_parts(item: dict[str, Any]) -> tuple[Role, list[MessagePart]]:
    kind = item.get("type")
    call_id = _text(item.get("call_id")) or _text(item.get("id"))
    if kind == "message":
        role = item.get("role")
        known: Role = "assistant" if role == "assistant" else "user" if role == "user" else "system"
        return known, _codex_content(item.get("content"))
    if kind in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments", item.get("input"))
        return "assistant", [_tool_call(_text(item.get("name")), call_id, arguments)]
    if kind in ("local_shell_call", "web_search_call"):
        return "assistant", [_tool_call(str(kind).removesuffix("_call"), call_id, item.get("action"))]
    if kind in ("function_call_output", "custom_tool_call_output"):
        output = item.get("output")
        content = _codex_content(output) if isinstance(output, list) else []
        return "tool", [parse_tool_output(content or output).as_result(call_id, "")]
    if kind == "reasoning":
        blocks = [*_list(item.get("summary")), *_list(item.get("content"))]
        texts = [_text(each.get("text")) for each in blocks if isinstance(each, dict)]
        return "assistant", [ReasoningPart(text="\n".join(texts))] if any(texts) else []
    return "assistant", []


def _codex_content(content: object) -> list[MessagePart]:
    """Return the texts and images of a message, or of a tool's output."""
    parts: list[MessagePart] = []
    for block in _blocks(content):
        if isinstance(block, dict) and _text(block.get("text")):
            parts.append(TextPart(text=block["text"]))
        elif isinstance(block, dict) and block.get("type") == "input_image" and _text(block.get("image_url")):
            parts.append(parse_image_url(block["image_url"]))
    return parts


def _add_gemini_message(transcript: Transcript, id: str, message: dict[str, Any]) -> None:
    kind, timestamp = message.get("type"), message.get("timestamp")
    blocks = [block for block in _blocks(message.get("content")) if isinstance(block, dict)]
    text = "".join(_text(block.get("text")) for block in blocks)
    parts: list[MessagePart] = [TextPart(text=text)] if text else []
    parts += [part for block in blocks if (part := _gemini_media(block.get("inlineData"))) is not None]
    if kind == "user":
        transcript.add(id, "user", parts, timestamp)
    if kind != "gemini":
        return
    thoughts = [each for each in _list(message.get("thoughts")) if isinstance(each, dict)]
    thinking = "\n".join(f"{_text(each.get('subject'))}: {_text(each.get('description'))}" for each in thoughts)
    calls = [each for each in _list(message.get("toolCalls")) if isinstance(each, dict)]
    if thinking:
        parts.insert(0, ReasoningPart(text=thinking))
    parts += [_tool_call(_text(call.get("name")), _text(call.get("id")), call.get("args")) for call in calls]
    transcript.add(id, "assistant", parts, timestamp)
    results: list[MessagePart] = [
        ToolResultPart(
            tool_name=_text(call.get("name")),
            tool_call_id=_text(call.get("id")),
            output=_gemini_output(call["result"]),
            is_error=call.get("status") == "error",
        )
        for call in calls
        if call.get("result")
    ]
    transcript.add(id, "tool", results, timestamp)


def _gemini_media(data: object) -> MessagePart | None:
    """Return the image or file of a part with `inlineData`: a MIME type and base64."""
    if not isinstance(data, dict) or not _text(data.get("data")):
        return None
    media_type = _text(data.get("mimeType")) or "application/octet-stream"
    if media_type.startswith("image/"):
        return ImagePart(data=data["data"], media_type=media_type)
    return FilePart(data=data["data"], media_type=media_type)


def _gemini_output(result: object) -> str:
    """Return the text of a tool's result: that of its function responses, or its JSON."""
    for part in _list(result):
        response = part.get("functionResponse") if isinstance(part, dict) else None
        outcome = response.get("response") if isinstance(response, dict) else None
        if isinstance(outcome, dict) and isinstance(output := outcome.get("output", outcome.get("error")), str):
            return output
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _tool_call(name: str, call_id: str, arguments: object) -> ToolPart:
    raw = arguments if isinstance(arguments, str) else None
    try:
        value = json.loads(raw) if raw is not None else arguments
    except ValueError:
        value = None
    if isinstance(value, dict):
        return ToolPart(tool_name=name or "tool", tool_call_id=call_id, input=value)
    return ToolPart(tool_name=name or "tool", tool_call_id=call_id, input={"input": raw if raw is not None else value})


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _milliseconds(timestamp: object) -> int:
    try:
        return int(datetime.fromisoformat(_text(timestamp)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
