"""Reads the hand-written scenes: plain text with a marker at the start of a line.

`# day 3: title` opens a scene, `@user` and `@agent` a piece of speech, `@call name {json}` a tool call that is followed
by its output, `@fail name {json}` one followed by its error. `@paste name` in a user's speech stands for a file.
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
    """One exchange: what the person wrote, and what the agent answered, its tool calls and their outcomes included."""

    user: str
    assistant: list[MessagePart] = field(default_factory=list)
    day: int = 0
    title: str = ""


def data_text(name: str) -> str:
    """A text file of the demo's data, by its path below `data/`."""
    return files("mnesis.demo").joinpath("data", *name.split("/")).read_text(encoding="utf-8")


def say(text: str) -> TextPart:
    """A piece of the agent's speech."""
    return TextPart(text=text)


def call(tool_name: str, arguments: Mapping[str, object], outcome: str, *, failed: bool = False) -> ToolPart:
    """A tool call and its outcome; the call's id is given when the conversation is put together."""
    return ToolPart(
        tool_name=tool_name,
        tool_call_id="",
        input=dict(arguments),
        output=None if failed else outcome,
        error_message=outcome if failed else None,
        status=ToolStatus(state="error" if failed else "completed"),
    )


def scenes(text: str) -> Iterator[list[DemoTurn]]:
    """The scenes of a text, each as its turns."""
    for block in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        day, _, title = heading.removeprefix("day ").partition(": ")
        yield [DemoTurn(user, parts, int(day), title) for user, parts in _turns(body)]


def _turns(body: str) -> Iterator[tuple[str, list[MessagePart]]]:
    user, parts = "", list[MessagePart]()
    for kind, argument, text in _pieces(body):
        if kind == "user":
            if parts:
                yield user, parts
            user, parts = text, []
        elif kind == "agent":
            parts.extend([say(text)] if text else [])
        else:
            name, _, arguments = argument.partition(" ")
            parts.append(call(name, json.loads(arguments), text, failed=kind == "fail"))
    yield user, parts


def _pieces(body: str) -> Iterator[tuple[str, str, str]]:
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
