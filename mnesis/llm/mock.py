"""A deterministic model without an API key: it echoes messages and summarizes by quoting."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any

from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.mock_schema import minimal_value
from mnesis.llm.mock_tools import calls_named_in
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage

MAX_ECHO_CHARS = 100
MAX_RESULT_CHARS = 300
SCHEMA_MARKER = "JSON Schema:\n"
"""The text before a schema in a system message."""

MAX_SUMMARY_LINES = 16
MAX_SUMMARY_LINE_CHARS = 120
MIN_FACT_DIGITS = 3
MAX_MENTIONS = 12
CHARS_PER_WORD = 4
_MAX_WORDS = re.compile(r"at most about (\d+) words\.$")
_FILE = re.compile(r"\[File .*?\[End of [^\]]*\]", re.DOTALL)


class MockLLM:
    """A client that answers without a provider. `MNESIS_MOCK_LLM=1` selects it for every call."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Return an echo of the newest user message.

        For `purpose="summary"`, the answer is a short outline that quotes the message. With `response_schema`, or a schema
        in the system message, it is a minimal value that satisfies the schema. Tools that the user message names are
        called first, with its quoted text as arguments.
        """
        if calls := _calls(request):
            usage = estimate_usage(request.messages, "".join(f"{call.tool_name}{call.input}" for call in calls))
            return LLMReply(tool_calls=calls, usage=usage, finish_reason="tool_calls", model=request.model)
        text = _text(request)
        return LLMReply(text=text, usage=estimate_usage(request.messages, text), model=request.model)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Yield the same answer word by word, then the reply.

        The pieces add up to exactly the text.
        """
        reply = await self.complete(request)
        for piece in split_words(reply.text):
            yield Delta(text=piece)
        yield reply


def _text(request: LLMRequest) -> str:
    if request.purpose == "summary":
        return _summary(request)
    schema = _schema_in_system_message(request) if request.response_schema is None else request.response_schema
    return _echo(request) if schema is None else json.dumps(minimal_value(schema))


def _schema_in_system_message(request: LLMRequest) -> Any:
    """Return the schema in the system message (agents have one), or None if there is none."""
    system = next((chat_message_text(each) for each in request.messages if each.get("role") == "system"), "")
    _, marker, schema = system.rpartition(SCHEMA_MARKER)
    try:
        return json.JSONDecoder().raw_decode(schema)[0] if marker else None
    except ValueError:
        return None


def split_words(text: str) -> list[str]:
    """Split `text` into words with the white space that follows them.

    Joined, they are `text` again.
    """
    return re.findall(r"^\s+|\S+\s*", text)


def estimate_usage(messages: Sequence[Mapping[str, Any]], answer: str) -> TokenUsage:
    """Estimate usage at four characters per token, at least one token for each direction."""
    input_tokens = max(sum(len(chat_message_text(message)) for message in messages) // 4, 1)
    output_tokens = max(len(answer) // 4, 1)
    return TokenUsage(input=input_tokens, output=output_tokens, total=input_tokens + output_tokens)


def chat_message_text(message: Mapping[str, Any]) -> str:
    """Return the whole content of a chat-completions message as text: its text, text blocks and calls."""
    content = message.get("content") or ""
    blocks = [content] if isinstance(content, str) else [block.get("text") or "" for block in content]
    functions = [call.get("function", {}) for call in message.get("tool_calls") or ()]
    return "".join([*blocks, *(f"{function.get('name')}{function.get('arguments')}" for function in functions)])


def _newest_user_text(request: LLMRequest) -> str:
    users = (message for message in reversed(request.messages) if message.get("role") == "user")
    return chat_message_text(next(users, {}))


def _calls(request: LLMRequest) -> tuple[ToolPart, ...]:
    last_message = request.messages[-1] if request.messages else {}
    if request.purpose == "summary" or last_message.get("role") != "user":
        return ()
    return calls_named_in(_user_text(last_message), request.tools, len(request.messages))


def _user_text(message: Mapping[str, Any]) -> str:
    """Return the text of a user message without file references.

    File references name tools but do not request them.
    """
    return _FILE.sub(" ", chat_message_text(message))


def _tool_results(request: LLMRequest) -> list[str]:
    """Return the tool results after the newest user message, oldest first."""
    latest_messages = takewhile(lambda message: message.get("role") != "user", reversed(request.messages))
    return [chat_message_text(message) for message in latest_messages if message.get("role") == "tool"][::-1]


def _echo(request: LLMRequest) -> str:
    results = "".join(f"A tool gave: {text[:MAX_RESULT_CHARS]}\n" for text in _tool_results(request))
    return (
        f"[Mock LLM response to: {_newest_user_text(request)[:MAX_ECHO_CHARS]}]\n{results}"
        "This is a simulated response for demonstration purposes. "
        "Set MNESIS_MOCK_LLM=0 and provide an API key to use a real LLM."
    )


def _summary(request: LLMRequest) -> str:
    source = _newest_user_text(request)
    lines = [line.strip(" \t#*->`")[:MAX_SUMMARY_LINE_CHARS] for line in source.splitlines()]
    lines = [line for line in lines if line]
    if lines and lines[0] in lines[1:]:  # a fence: the record is between the two lines
        lines = lines[1 : lines.index(lines[0], 1)]
    # Two characters per allowed output token, four per requested word, and at most half of the input: shorter than the source
    # by any count.
    words = _MAX_WORDS.findall(source)
    max_chars = min(
        len(source) // 2,
        2 * (request.max_output_tokens or len(source)),
        CHARS_PER_WORD * int(words[-1]) if words else len(source),
    )
    mentions = _mentions(lines, max_chars // 4)
    max_chars -= len(mentions)
    outlines = (_outline(_select_lines(lines, count)) for count in range(MAX_SUMMARY_LINES, -1, -1))
    outline = next((outline for outline in outlines if len(outline) <= max_chars), "\n".join(lines)[:max_chars])
    return outline + mentions


def _mentions(lines: Sequence[str], max_chars: int) -> str:
    """Return a section with numbers and identifiers of the record, as many as fit, or nothing."""
    words = dict.fromkeys(word.strip(".,:;!?()[]{}\"'") for line in lines for word in line.split())
    facts = [word for word in words if sum(map(str.isdigit, word)) >= MIN_FACT_DIGITS]
    # Spread over the whole record.
    for count in range(min(len(facts), MAX_MENTIONS), 0, -1):
        chosen = [facts[len(facts) * i // count] for i in range(count)]
        section = f"\n\n## Mentioned\n- {', '.join(chosen)}"
        if len(section) <= max_chars:
            return section
    return ""


def _select_lines(lines: Sequence[str], count: int) -> list[str]:
    """Return the first lines of the record, and from each part of the rest the line with the most numbers and names."""
    if len(lines) <= count:
        return list(lines)
    part_count = count // 2
    first, rest = lines[: count - part_count], lines[count - part_count :]
    bounds = [len(rest) * i // max(part_count, 1) for i in range(part_count + 1)]
    parts = [rest[start:end] for start, end in pairwise(bounds)]
    return [*first, *(max(part, key=lambda line: sum(map(_is_number_or_name, line.split()))) for part in parts)]


def _is_number_or_name(word: str) -> bool:
    return word[:1].isupper() or any(map(str.isdigit, word))


def _outline(lines: Sequence[str]) -> str:
    def bullets(selected: Sequence[str]) -> str:
        return "\n".join(f"- {line}" for line in selected) or "- (none)"

    return (
        f"## Goal\n{bullets(lines[:1])}\n\n## Completed Work\n{bullets(lines[1:-1])}\n\n"
        f"## In Progress\n{bullets(lines[1:][-1:])}\n\n## Remaining Work\n- (none)"
    )
