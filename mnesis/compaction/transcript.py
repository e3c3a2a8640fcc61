"""What a summariser reads: everything the messages say, nothing cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from mnesis.compaction.extract import Passage
from mnesis.formats.openai import part_text, result_text
from mnesis.models.message import Message, ReasoningPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


def passages(items: Iterable[Message | Summary]) -> list[Passage]:
    """The items in order, one passage per part that says something."""
    found: list[Passage] = []
    for item in items:
        if isinstance(item, Summary):
            found.extend(_of_summary(item))
        else:
            found.extend(_of_message(item))
    return found


def _of_summary(summary: Summary) -> Iterable[Passage]:
    """A model's summary as it is; an extract line by line, since each line says who speaks."""
    if summary.level != 3:
        yield Passage(speaker="Summary", text=summary.text, ref=summary.id)
        return
    for line in summary.text.splitlines():
        speaker, colon, text = line.partition(": ")
        if colon:
            yield Passage(speaker=speaker, text=text, ref=summary.id)
        elif line.strip():
            yield Passage(speaker="Summary", text=line, ref=summary.id)


def _of_message(message: Message) -> Iterable[Passage]:
    speaker = SPEAKERS[message.role]
    for part in message.parts:
        if isinstance(part, ToolPart):
            arguments = part.raw_input if part.raw_input is not None else json.dumps(part.input, ensure_ascii=False)
            yield Passage(speaker=speaker, text=f"calls {part.tool_name} with {arguments}", ref=message.id)
            if part.has_result:
                yield Passage(speaker=f"Tool {part.tool_name}", text=result_text(part.result()), ref=message.id)
        elif isinstance(part, ToolResultPart):
            yield Passage(speaker=f"Tool {part.tool_name}".strip(), text=result_text(part), ref=message.id)
        elif isinstance(part, ReasoningPart):
            yield Passage(speaker=f"{speaker}, thinking", text=part.text, ref=message.id)
        else:
            text = part_text(part)
            if text:
                yield Passage(speaker=speaker, text=text, ref=message.id)


def plain_text(found: Sequence[Passage]) -> str:
    """The passages as one text, a blank line between them."""
    return "\n\n".join(f"{passage.speaker}: {passage.text}" for passage in found)


def file_ids(items: Iterable[Message | Summary]) -> tuple[str, ...]:
    """The ids of all files the items refer to, in order of first mention, each once. Text is never searched for them."""
    found: dict[str, None] = {}
    for item in items:
        if isinstance(item, Summary):
            found.update(dict.fromkeys(item.file_ids))
        else:
            found.update(dict.fromkeys(part.content_id for part in item.file_refs))
    return tuple(found)
