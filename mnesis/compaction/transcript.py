"""The transcript that a summarizer reads: everything the messages say, uncut.

Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mnesis.compaction.extract import Passage
from mnesis.formats.text import call_arguments, part_text, result_text
from mnesis.models.message import Message, ReasoningPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


def passages(items: Iterable[Message | Summary]) -> list[Passage]:
    """Return the items as passages, in order, one for each part that has text."""
    transcript: list[Passage] = []
    for item in items:
        if isinstance(item, Summary):
            transcript.extend(_summary_passages(item))
        else:
            transcript.extend(_message_passages(item))
    return transcript


def _summary_passages(summary: Summary) -> Iterable[Passage]:
    """Yield a model's summary as one passage, and an extract line by line.

    Each line of an extract names its speaker.
    """
    if summary.level != 3:
        yield Passage(speaker="Summary", text=summary.text, ref=summary.id)
        return
    for line in summary.text.splitlines():
        speaker, colon, text = line.partition(": ")
        if colon:
            yield Passage(speaker=speaker, text=text, ref=summary.id)
        elif line.strip():
            yield Passage(speaker="Summary", text=line, ref=summary.id)


def _message_passages(message: Message) -> Iterable[Passage]:
    speaker = SPEAKERS[message.role]
    for part in message.parts:
        if isinstance(part, ToolPart):
            text = f"calls {part.tool_name} with {call_arguments(part)}"
            yield Passage(speaker=speaker, text=text, ref=message.id)
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


def transcript_text(passages: Sequence[Passage]) -> str:
    """Join the passages to one text, with blank lines between them."""
    return "\n\n".join(f"{passage.speaker}: {passage.text}" for passage in passages)


def referenced_file_ids(items: Iterable[Message | Summary]) -> tuple[str, ...]:
    """Return the ids of the files that the items refer to, each once, in order.

    Text is not searched for ids.
    """
    ids: dict[str, None] = {}
    for item in items:
        if isinstance(item, Summary):
            ids.update(dict.fromkeys(item.file_ids))
        else:
            ids.update(dict.fromkeys(part.content_id for part in item.file_refs))
    return tuple(ids)
