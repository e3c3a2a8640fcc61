"""The active context as messages that a provider accepts, with prunes applied.

Pure functions, no I/O.

- A call without a result gets a synthetic one, which is clearly marked and never stored.
- Results follow in the order of their calls.
- A result that does not directly follow its call is shown as text in its own message, so that the messages sent before it
  do not change.
- Empty ids, and ids used twice in one message, are made distinct.
- Arguments that are not a JSON object are wrapped in one, because some providers parse them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnesis.context import markers
from mnesis.formats.text import compact_arguments, is_plain_text
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TOOL_OVERHEAD_TOKENS, TokenCounter

RESULT_OVERHEAD_TOKENS = MESSAGE_OVERHEAD_TOKENS + TOOL_OVERHEAD_TOKENS
"""The overhead of a synthetic result or a result shown as text, in tokens."""


@dataclass(slots=True)  # not frozen, which takes twice as long: each request creates one for each message
class Entry:
    """One message of a window, and the last seq of the log that it represents.

    `group` is the number of its group: a call and its results share one and are dropped only together.
    """

    message: Message
    group: int
    last_seq: int


def window_entries(context: ActiveContext, count: TokenCounter) -> list[Entry]:
    """Return the active context as messages, in order, valid for a provider."""
    messages = [_as_message(item, context.prunes) for item in context.items]
    last_seqs = {item.id: item.last_seq for item in context.items if isinstance(item, Summary)}
    return [
        Entry(message, group, last_seqs.get(message.id, message.seq) if message.is_summary else message.seq)
        for message, group in _repair(messages, count)
    ]


def _as_message(item: Summary | Message, prunes: dict[tuple[int, int], Prune]) -> Message:
    if isinstance(item, Summary):
        return markers.summary_message(item)
    if not prunes:
        return item
    saved_tokens, parts = 0, []
    for index, part in enumerate(item.parts):
        prune = prunes.get((item.seq, index))
        parts.append(_apply_prune(part, item.id, prune) if prune else part)
        saved_tokens += prune.tokens_saved if prune else 0
    if not saved_tokens:
        return item
    return item.model_copy(update={"parts": tuple(parts), "token_count": max(item.token_count - saved_tokens, 1)})


def _apply_prune(part: MessagePart, message_id: str, prune: Prune) -> MessagePart:
    if isinstance(part, ToolPart):
        marker = markers.pruned_output_marker(message_id, part.tool_name, prune.tokens_saved)
        name = "error_message" if part.error_message is not None else "output"
        return part.model_copy(update={name: marker, "output_parts": ()})
    if isinstance(part, ToolResultPart):
        marker = markers.pruned_output_marker(message_id, part.tool_name, prune.tokens_saved)
        return part.model_copy(update={"output": marker, "output_parts": ()})
    return part


def _repair(messages: Sequence[Message], count: TokenCounter) -> Iterable[tuple[Message, int]]:
    group, index = 0, 0
    while index < len(messages):
        message = messages[index]
        index += 1
        group += 1
        if message.role != "tool" and is_plain_text(message):
            yield message, group
            continue
        if message.role != "assistant" or not message.tool_calls:
            yield _orphans_as_text(message, count), group
            continue
        message, pending_calls = _normalize_calls(message, count)
        yield message, group
        result_messages: list[Message] = []
        late_messages: list[Message] = []
        while index < len(messages) and messages[index].role == "tool":
            results, orphans = _match_results(messages[index], pending_calls)
            if results is not None:
                result_messages.append(results)
            if orphans or results is None:
                late_messages.append(_results_as_text(messages[index], orphans, count))
            index += 1
        result_messages += [_synthetic_result(message, part, count) for _, part in pending_calls]
        # Results are stored as their tools finish. Some providers match them to calls by order, so the order of the calls counts.
        positions = {call.tool_call_id: position for position, call in enumerate(message.tool_calls)}
        for results in sorted(result_messages, key=lambda each: positions[each.tool_results[0].tool_call_id]):
            yield results, group
        for orphan in late_messages:
            group += 1
            yield orphan, group


def _normalize_calls(message: Message, count: TokenCounter) -> tuple[Message, list[tuple[str, ToolPart]]]:
    """Return the message with valid calls, and its calls without a result.

    Each of these calls is paired with its original id.
    """
    used_ids: set[str] = set()
    parts: list[MessagePart] = []
    pending_calls: list[tuple[str, ToolPart]] = []
    added_tokens = 0
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolPart):
            original_id = part.tool_call_id
            if part.raw_input is not None:
                added_tokens -= count(part.raw_input)
                part = part.model_copy(update={"input": {"not_json": part.raw_input}, "raw_input": None})
                added_tokens += count(compact_arguments(part))
            if not original_id or original_id in used_ids:
                distinct_id = f"{original_id or 'call'}_{message.seq}_{index}"
                part = part.model_copy(update={"tool_call_id": distinct_id})
            used_ids.add(part.tool_call_id)
            if not part.has_result:
                pending_calls.append((original_id, part))
        parts.append(part)
    if all(new is old for new, old in zip(parts, message.parts, strict=True)):
        return message, pending_calls
    tokens = max(message.token_count + added_tokens, 1)
    return message.model_copy(update={"parts": tuple(parts), "token_count": tokens}), pending_calls


def _match_results(
    message: Message, pending_calls: list[tuple[str, ToolPart]]
) -> tuple[Message | None, list[MessagePart]]:
    """Split a tool message into results of pending calls and orphans.

    Removes the answered calls from `pending_calls`.
    """
    results: list[MessagePart] = []
    orphans: list[MessagePart] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            orphans.append(part)
            continue
        index = next((i for i, (original_id, _) in enumerate(pending_calls) if original_id == part.tool_call_id), None)
        if index is None:
            orphans.append(part)
            continue
        call = pending_calls.pop(index)[1]
        has_same_id = call.tool_call_id == part.tool_call_id
        results.append(part if has_same_id else part.model_copy(update={"tool_call_id": call.tool_call_id}))
    if not results:
        return None, orphans
    if len(results) == len(message.parts) and all(a is b for a, b in zip(results, message.parts, strict=True)):
        return message, orphans
    return message.model_copy(update={"parts": tuple(results)}), orphans


def _synthetic_result(message: Message, call: ToolPart, count: TokenCounter) -> Message:
    result = ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output=markers.MISSING_RESULT)
    return Message(
        id=f"{message.id}_result_{call.tool_call_id}",
        session_id=message.session_id,
        seq=message.seq,
        role="tool",
        parts=(result,),
        token_count=count(markers.MISSING_RESULT) + RESULT_OVERHEAD_TOKENS,
    )


def _orphans_as_text(message: Message, count: TokenCounter) -> Message:
    if message.role == "tool" or message.tool_results:
        return _results_as_text(message, list(message.parts), count)
    return message


def _results_as_text(message: Message, parts: Sequence[MessagePart], count: TokenCounter) -> Message:
    """Return a message with its tool results as text.

    For results that answer no call of the previous message.
    """
    text_parts: list[MessagePart] = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            name = part.tool_name or "a tool"
            heading = f"[Result of {name}, call {part.tool_call_id or 'unknown'}]\n"
            if part.output_parts:
                text_parts += [TextPart(text=heading), *part.output_parts]
            else:
                text_parts.append(TextPart(text=f"{heading}{part.output}\n"))
        else:
            text_parts.append(part)
    role = message.role if message.role != "tool" else "user"
    extra_tokens = len(message.tool_results) * count("[Result of a tool, call unknown]\n")
    return message.model_copy(
        update={
            "role": role,
            "parts": tuple(text_parts),
            "token_count": message.token_count + extra_tokens + RESULT_OVERHEAD_TOKENS,
        }
    )
