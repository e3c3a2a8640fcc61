"""From the active context to messages a provider accepts: prunes applied, every call with its result.

Rules: a call without a result gets a synthetic one, clearly marked and never stored; a result that does not directly
follow its call is shown as text in a message of its own, so that what was sent before it stays as it was; ids that are
empty or used twice in one message are made distinct; arguments that are no JSON object are wrapped in one, since some
providers parse them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnesis.context import markers
from mnesis.formats.openai import arguments_text
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary

# What a synthetic result or a marker adds beyond its text, as for any other result.
RESULT_OVERHEAD_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a window and the atom it belongs to: a call and its results share one and are never torn.

    `last_seq` is the last message of the log it stands for."""

    message: Message
    atom: int
    last_seq: int


def entries(context: ActiveContext, count: markers.Count) -> list[Entry]:
    """The active context as messages, in order, valid for a provider."""
    shown = [_shown(item, context.prunes) for item in context.items]
    last_seqs = {item.id: item.last_seq for item in context.items if isinstance(item, Summary)}
    return [
        Entry(message, atom, last_seqs.get(message.id, message.seq) if message.is_summary else message.seq)
        for message, atom in _repaired(shown, count)
    ]


def _shown(item: Summary | Message, prunes: dict[tuple[int, int], Prune]) -> Message:
    if isinstance(item, Summary):
        return markers.summary_message(item)
    if not prunes:
        return item
    saved, parts = 0, []
    for index, part in enumerate(item.parts):
        prune = prunes.get((item.seq, index))
        parts.append(_pruned(part, item.id, prune) if prune else part)
        saved += prune.tokens_saved if prune else 0
    if not saved:
        return item
    return item.model_copy(update={"parts": tuple(parts), "token_count": max(item.token_count - saved, 1)})


def _pruned(part: MessagePart, message_id: str, prune: Prune) -> MessagePart:
    if isinstance(part, ToolPart):
        marker = markers.pruned_output(message_id, part.tool_name, prune.tokens_saved)
        changes = {"error_message": marker} if part.error_message is not None else {"output": marker}
        return part.model_copy(update=changes)
    if isinstance(part, ToolResultPart):
        marker = markers.pruned_output(message_id, part.tool_name, prune.tokens_saved)
        return part.model_copy(update={"output": marker})
    return part


def _repaired(messages: Sequence[Message], count: markers.Count) -> Iterable[tuple[Message, int]]:
    atom, index = 0, 0
    while index < len(messages):
        message = messages[index]
        index += 1
        atom += 1
        if message.role != "assistant" or not message.tool_calls:
            yield _without_orphans(message, count), atom
            continue
        message, waiting = _with_usable_calls(message, count)
        yield message, atom
        late: list[Message] = []
        while index < len(messages) and messages[index].role == "tool":
            answer, orphans = _matched(messages[index], waiting)
            if answer is not None:
                yield answer, atom
            if orphans or answer is None:
                late.append(_as_text(messages[index], orphans, count))
            index += 1
        if waiting:
            yield _missing_results(message, waiting, count), atom
        for orphan in late:
            atom += 1
            yield orphan, atom


def _with_usable_calls(message: Message, count: markers.Count) -> tuple[Message, list[tuple[str, ToolPart]]]:
    """The message with calls a provider takes, and those that wait for a result with the id they came with."""
    seen: set[str] = set()
    parts: list[MessagePart] = []
    waiting: list[tuple[str, ToolPart]] = []
    added_tokens = 0
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolPart):
            original = part.tool_call_id
            if part.raw_input is not None:
                added_tokens -= count(part.raw_input)
                part = part.model_copy(update={"input": {"not_json": part.raw_input}, "raw_input": None})
                added_tokens += count(arguments_text(part))
            if not original or original in seen:
                distinct = f"{original or 'call'}_{message.seq}_{index}"
                part = part.model_copy(update={"tool_call_id": distinct})
            seen.add(part.tool_call_id)
            if not part.has_result:
                waiting.append((original, part))
        parts.append(part)
    if all(mine is its for mine, its in zip(parts, message.parts, strict=True)):
        return message, waiting
    tokens = max(message.token_count + added_tokens, 1)
    return message.model_copy(update={"parts": tuple(parts), "token_count": tokens}), waiting


def _matched(message: Message, waiting: list[tuple[str, ToolPart]]) -> tuple[Message | None, list[MessagePart]]:
    """The results of a tool message that answer waiting calls (taken off the list), and what answers none."""
    answers: list[MessagePart] = []
    orphans: list[MessagePart] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            orphans.append(part)
            continue
        place = next((i for i, (original, _) in enumerate(waiting) if original == part.tool_call_id), None)
        if place is None:
            orphans.append(part)
            continue
        call = waiting.pop(place)[1]
        same = call.tool_call_id == part.tool_call_id
        answers.append(part if same else part.model_copy(update={"tool_call_id": call.tool_call_id}))
    if not answers:
        return None, orphans
    if len(answers) == len(message.parts) and all(a is b for a, b in zip(answers, message.parts, strict=True)):
        return message, orphans
    return message.model_copy(update={"parts": tuple(answers)}), orphans


def _missing_results(call: Message, waiting: list[tuple[str, ToolPart]], count: markers.Count) -> Message:
    parts = tuple(
        ToolResultPart(tool_call_id=part.tool_call_id, tool_name=part.tool_name, output=markers.MISSING_RESULT)
        for _, part in waiting
    )
    tokens = len(parts) * (count(markers.MISSING_RESULT) + RESULT_OVERHEAD_TOKENS)
    return Message(
        id=f"{call.id}_results", session_id=call.session_id, seq=call.seq, role="tool", parts=parts, token_count=tokens
    )


def _without_orphans(message: Message, count: markers.Count) -> Message:
    if message.role == "tool" or message.tool_results:
        return _as_text(message, list(message.parts), count)
    return message


def _as_text(message: Message, parts: Sequence[MessagePart], count: markers.Count) -> Message:
    """A message whose results answer no call of the message before it, readable as text."""
    shown: list[MessagePart] = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            name = part.tool_name or "a tool"
            shown.append(TextPart(text=f"[Result of {name}, call {part.tool_call_id or 'unknown'}]\n{part.output}\n"))
        else:
            shown.append(part)
    role = message.role if message.role != "tool" else "user"
    extra = len(message.tool_results) * count("[Result of a tool, call unknown]\n")
    return message.model_copy(
        update={
            "role": role,
            "parts": tuple(shown),
            "token_count": message.token_count + extra + RESULT_OVERHEAD_TOKENS,
        }
    )
