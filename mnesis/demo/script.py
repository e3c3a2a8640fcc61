"""Parser of the hand-written scenes: plain text with markers at the start of lines.

`# day 3: title` starts a scene. `@user` and `@agent` start a piece of text. `@call name {json}` starts a tool call and is
followed by its output; `@fail name {json}` is followed by its error. `@paste name` in a user's text is replaced by a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from mnesis.models.message import MessagePart, TextPart, ToolPart, ToolStatus

_MARKER = re.compile(r"^@(user|agent|call|fail)\b ?(.*)$")


@dataclass(frozen=True, slots=True)
class DemoTurn:
    """One turn: the person's message and the agent's reply, with its tool calls and their results."""

    user: str
    assistant: list[MessagePart] = field(default_factory=list)
    day: int = 0
    title: str = ""


def data_text(name: str) -> str:
    """Read a text file of the demo's data by its path below `data/`."""
    return files("mnesis.demo").joinpath("data", *name.split("/")).read_text(encoding="utf-8")


def text_part(text: str) -> TextPart:
    """Create a text part."""
    return TextPart(text=text)


def tool_call(tool_name: str, arguments: Mapping[str, object], outcome: str, *, failed: bool = False) -> ToolPart:
    """Create a tool call with its result. Its id is empty until the conversation is assembled."""
    return ToolPart(
        tool_name=tool_name,
        tool_call_id="",
        input=dict(arguments),
        output=None if failed else outcome,
        error_message=outcome if failed else None,
        status=ToolStatus(state="error" if failed else "completed"),
    )


def parse_scenes(text: str) -> Iterator[list[DemoTurn]]:
    """Parse the scenes of a text, each into its turns."""
    for block in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        day, _, title = heading.removeprefix("day ").partition(": ")
        yield [DemoTurn(user, parts, int(day), title) for user, parts in _parse_turns(body)]


def _parse_turns(body: str) -> Iterator[tuple[str, list[MessagePart]]]:
    user, parts = "", list[MessagePart]()
    for kind, argument, text in _split_pieces(body):
        if kind == "user":
            if parts:
                yield user, parts
            user, parts = text, []
        elif kind == "agent":
            parts.extend([text_part(text)] if text else [])
        else:
            name, _, arguments = argument.partition(" ")
            parts.append(tool_call(name, json.loads(arguments), text, failed=kind == "fail"))
    yield user, parts


def _split_pieces(body: str) -> Iterator[tuple[str, str, str]]:
    kind, argument, lines = "", "", list[str]()
    for line in body.splitlines():
        marker = _MARKER.match(line)
        if marker is None:
            lines.append(line)
            continue
        if kind:
            yield kind, argument, "\n".join(lines).strip("\n")
        (kind, argument), lines = marker.groups(), []
    yield kind, argument, "\n".join(lines).strip("\n")
