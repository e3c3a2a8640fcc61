"""A model that needs no key: it says what it was asked, and sums up by quoting. Deterministic."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.mock_schema import smallest
from mnesis.llm.mock_tools import named_calls
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage

ECHO_CHARACTERS = 100
RESULT_CHARACTERS = 300
SCHEMA_FOLLOWS = "JSON Schema:\n"
"""What stands before a schema that is told in words."""
SUMMARY_LINES = 8
SUMMARY_LINE_CHARACTERS = 120
_FILE = re.compile(r"\[File .*?\[End of [^\]]*\]", re.DOTALL)


class MockLLM:
    """Answers without a provider. Chosen by `MNESIS_MOCK_LLM=1` wherever a model would be called."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The echo of the newest user message, for `purpose="summary"` a short frame that quotes its lines, or the smallest
        value that satisfies `response_schema` or a schema in the system message.

        Tools that a user message names are called first, with what it quotes as arguments."""
        if calls := _calls(request):
            usage = estimated_usage(request.messages, "".join(f"{call.tool_name}{call.input}" for call in calls))
            return LLMReply(tool_calls=calls, usage=usage, finish_reason="tool_calls", model=request.model)
        text = _text(request)
        return LLMReply(text=text, usage=estimated_usage(request.messages, text), model=request.model)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """The same, word by word; the pieces add up to exactly the text."""
        reply = await self.complete(request)
        for piece in words(reply.text):
            yield Delta(text=piece)
        yield reply


def _text(request: LLMRequest) -> str:
    if request.purpose == "summary":
        return _summary(request)
    schema = _told_schema(request) if request.response_schema is None else request.response_schema
    return _echo(request) if schema is None else json.dumps(smallest(schema))


def _told_schema(request: LLMRequest) -> Any:
    """The schema that the system message tells, as that of an agent does; None if there is none."""
    system = next((message_text(each) for each in request.messages if each.get("role") == "system"), "")
    _, told, schema = system.rpartition(SCHEMA_FOLLOWS)
    try:
        return json.JSONDecoder().raw_decode(schema)[0] if told else None
    except ValueError:
        return None


def words(text: str) -> list[str]:
    """The words of `text`, each with the white space behind it; joined they are `text` again."""
    return re.findall(r"^\s+|\S+\s*", text)


def estimated_usage(messages: Sequence[Mapping[str, Any]], answer: str) -> TokenUsage:
    """Usage counted from text alone: a token per four characters, at least one on each side."""
    asked = max(sum(len(message_text(message)) for message in messages) // 4, 1)
    answered = max(len(answer) // 4, 1)
    return TokenUsage(input=asked, output=answered, total=asked + answered)


def message_text(message: Mapping[str, Any]) -> str:
    """Everything a chat-completions message says: its text, text blocks, and the calls it makes."""
    content = message.get("content") or ""
    blocks = [content] if isinstance(content, str) else [block.get("text") or "" for block in content]
    functions = [call.get("function", {}) for call in message.get("tool_calls") or ()]
    return "".join([*blocks, *(f"{function.get('name')}{function.get('arguments')}" for function in functions)])


def _newest_user_text(request: LLMRequest) -> str:
    users = (message for message in reversed(request.messages) if message.get("role") == "user")
    return message_text(next(users, {}))


def _calls(request: LLMRequest) -> tuple[ToolPart, ...]:
    asked = request.messages[-1] if request.messages else {}
    if request.purpose == "summary" or asked.get("role") != "user":
        return ()
    return named_calls(_typed_text(asked), request.tools, len(request.messages))


def _typed_text(message: Mapping[str, Any]) -> str:
    """What the user wrote: a reference to a file names tools too, and asks for none."""
    return _FILE.sub(" ", message_text(message))


def _tool_results(request: LLMRequest) -> list[str]:
    """What tools gave since the newest user message."""
    newest = takewhile(lambda message: message.get("role") != "user", reversed(request.messages))
    return [message_text(message) for message in newest if message.get("role") == "tool"][::-1]


def _echo(request: LLMRequest) -> str:
    results = "".join(f"A tool gave: {text[:RESULT_CHARACTERS]}\n" for text in _tool_results(request))
    return (
        f"[Mock LLM response to: {_newest_user_text(request)[:ECHO_CHARACTERS]}]\n{results}"
        "This is a simulated response for demonstration purposes. "
        "Set MNESIS_MOCK_LLM=0 and provide an API key to use a real LLM."
    )


def _summary(request: LLMRequest) -> str:
    source = _newest_user_text(request)
    lines = [line.strip(" \t#*->`")[:SUMMARY_LINE_CHARACTERS] for line in source.splitlines()]
    lines = [line for line in lines if line]
    if lines and lines[0] in lines[1:]:  # a fence: the record stands between the two
        lines = lines[1 : lines.index(lines[0], 1)]
    # Two characters for each token that may be written, and half of the input: shorter on any count.
    room = min(len(source) // 2, 2 * (request.max_output_tokens or len(source)))
    frames = (_frame(lines[:count]) for count in range(SUMMARY_LINES, -1, -1))
    return next((frame for frame in frames if len(frame) <= room), "\n".join(lines)[:room])


def _frame(lines: Sequence[str]) -> str:
    def bullets(chosen: Sequence[str]) -> str:
        return "\n".join(f"- {line}" for line in chosen) or "- (none)"

    return (
        f"## Goal\n{bullets(lines[:1])}\n\n## Completed Work\n{bullets(lines[1:-1])}\n\n"
        f"## In Progress\n{bullets(lines[1:][-1:])}\n\n## Remaining Work\n- (none)"
    )
