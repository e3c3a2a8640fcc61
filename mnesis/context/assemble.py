"""Assembly of one window from the active context, within a budget. Pure functions, no I/O.

Usually everything fits, because compaction keeps the context small. If it does not fit (a message is larger than the
window, automatic compaction is off, or a summary is late), the window is reduced, and nothing is dropped silently:

1. Messages that alone take more than half of the budget are truncated to head, tail and a pointer.
2. The oldest messages are dropped, and a marker names each span of them. The newest user message stays.
3. The remaining messages are truncated evenly until they fit.

Step 2 drops messages in strides, so that the beginning of the window stays the same for many requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from mnesis.context import markers
from mnesis.context.repair import Entry, window_entries
from mnesis.errors import ContextIrreducibleError
from mnesis.formats.text import compact_arguments, is_plain_text, parts_text
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.models.summary import Summary
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter, message_tokens, result_tokens

LARGE_FRACTION = 0.5
"""Of the available tokens: messages that take more are truncated first."""

EXCERPT_FRACTION = 0.25
"""Of the available tokens: the size that these messages are truncated to."""

STRIDE_FRACTION = 0.25
"""Of the available tokens: messages are dropped in multiples of this."""

MIN_EXCERPT_TOKENS = 72
"""A message that is only a pointer, counted with the tokenizer that needs the most tokens for it."""

MARKER_TOKENS = 60
"""A message that is a marker, counted in the same way."""

MIN_AVAILABLE_TOKENS = MIN_EXCERPT_TOKENS + 2 * MARKER_TOKENS
"""The newest user message as an excerpt, with a marker on each side."""


def assemble(
    context: ActiveContext,
    *,
    budget_tokens: int,
    count: TokenCounter,
    system_prompt: str | None = None,
    reserved_tokens: int = 0,
) -> Window:
    """Assemble the window for one request in at most `budget_tokens`.

    The budget includes the system prompt and `reserved_tokens`. `reserved_tokens` is the size of what the request
    carries in addition to messages (tool definitions). `system_prompt` None uses the session's. The same context and
    budget give the same window.

    Raises `ContextIrreducibleError` if the system prompt and the reserve leave too few tokens for a conversation.
    """
    session = context.session
    prompt = session.system_prompt if system_prompt is None else system_prompt
    system_tokens = (
        session.system_tokens if prompt == session.system_prompt else count(prompt) + MESSAGE_OVERHEAD_TOKENS
    )
    entries = window_entries(context, count)
    latest_user_seq = max(
        (item.seq for item in context.items if isinstance(item, Message) and item.role == "user"), default=0
    )
    available_tokens = budget_tokens - system_tokens - reserved_tokens
    omitted_count = 0
    if _total_tokens(entries) > available_tokens:
        if available_tokens < MIN_AVAILABLE_TOKENS:
            raise _irreducible_error(system_tokens, reserved_tokens, budget_tokens)
        entries, omitted_count = _fit(entries, available_tokens, count, latest_user_seq)
    return Window(
        messages=tuple(entry.message for entry in entries),
        system_prompt=prompt,
        system_tokens=system_tokens,
        tokens=system_tokens + reserved_tokens + _total_tokens(entries),
        budget_tokens=budget_tokens,
        omitted=omitted_count,
        hides_content=bool(context.covers or context.prunes or omitted_count),
        file_ids=_file_ids(context),
        reserved_tokens=reserved_tokens,
        session=session,
    )


def _file_ids(context: ActiveContext) -> tuple[str, ...]:
    """Return the ids of the stored files that the context refers to, each once, in order."""
    ids: dict[str, None] = {}
    for item in context.items:
        if isinstance(item, Summary):
            ids.update(dict.fromkeys(item.file_ids))
        elif not is_plain_text(item):
            ids.update(dict.fromkeys(part.content_id for part in item.file_refs))
    return tuple(ids)


def _total_tokens(entries: Iterable[Entry]) -> int:
    return sum(entry.message.token_count for entry in entries)


def _irreducible_error(system_tokens: int, reserved_tokens: int, budget_tokens: int) -> ContextIrreducibleError:
    return ContextIrreducibleError(
        f"the system prompt ({system_tokens:,} tokens) and the tool definitions ({reserved_tokens:,} tokens) leave too few of the"
        f" {budget_tokens:,} usable tokens for a conversation; shorten them, or use a model with a larger window",
        required_tokens=system_tokens + reserved_tokens,
        usable_tokens=budget_tokens,
    )


def _fit(
    entries: list[Entry], available_tokens: int, count: TokenCounter, latest_user_seq: int
) -> tuple[list[Entry], int]:
    """Reduce the entries to `available_tokens`.

    The newest user message stays whole if it fits at all.
    """
    excerpt_tokens = int(available_tokens * EXCERPT_FRACTION)
    entries = [
        replace(e, message=truncate(e.message, excerpt_tokens, count))
        if e.message.token_count
        > available_tokens * (LARGE_FRACTION if e.message.seq != latest_user_seq else 1 - EXCERPT_FRACTION)
        else e
        for e in entries
    ]
    omitted_count = 0
    if _total_tokens(entries) > available_tokens:
        entries, omitted_count = _drop_oldest(entries, available_tokens, count, latest_user_seq)
    if _total_tokens(entries) > available_tokens:
        entries = _truncate_evenly(entries, available_tokens, count, latest_user_seq)
    return entries, omitted_count


def _drop_oldest(
    entries: list[Entry], available_tokens: int, count: TokenCounter, latest_user_seq: int
) -> tuple[list[Entry], int]:
    stride_tokens = max(int(available_tokens * STRIDE_FRACTION), 1)
    excess_tokens = _total_tokens(entries) - available_tokens + 2 * MARKER_TOKENS
    tokens_to_free = -(-excess_tokens // stride_tokens) * stride_tokens
    kept = {entries[-1].group, *(e.group for e in entries if e.message.seq == latest_user_seq)}
    groups = [list(members) for _, members in groupby(entries, key=lambda entry: entry.group)]
    candidates = [group for group in groups if group[0].group not in kept]
    dropped: set[int] = set()
    # Messages are dropped before summaries, which say more in fewer tokens. The sort keeps the order within both.
    for group in sorted(candidates, key=lambda group: group[0].message.is_summary):
        if tokens_to_free <= 0:
            break
        dropped.add(group[0].group)
        tokens_to_free -= _total_tokens(group)
    return list(_replace_with_markers(entries, dropped, count)), sum(1 for e in entries if e.group in dropped)


def _replace_with_markers(entries: Sequence[Entry], dropped: set[int], count: TokenCounter) -> Iterable[Entry]:
    dropped_span: list[Entry] = []
    for entry in entries:
        if entry.group in dropped:
            dropped_span.append(entry)
            continue
        if dropped_span:
            yield _omission_marker(dropped_span, count)
            dropped_span = []
        yield entry
    if dropped_span:
        yield _omission_marker(dropped_span, count)


def _omission_marker(dropped_span: Sequence[Entry], count: TokenCounter) -> Entry:
    # Orphaned results come after the results that answer calls, so the entries may not be in log order.
    first_message, last_seq = (
        min((e.message for e in dropped_span), key=lambda m: m.seq),
        max(e.last_seq for e in dropped_span),
    )
    # A call's synthetic results share its seq and are not messages of the log.
    message_count = sum(span_end - start + 1 for start, span_end in {(e.message.seq, e.last_seq) for e in dropped_span})
    message = Message(
        id=f"{first_message.id}_omitted",
        session_id=first_message.session_id,
        seq=first_message.seq,
        role="user",
        parts=(TextPart(text=markers.omitted_span_marker(first_message.seq, last_seq, message_count)),),
    )
    tokens, _ = message_tokens(message, count)
    return Entry(message.model_copy(update={"token_count": tokens}), dropped_span[0].group, last_seq)


def _truncate_evenly(
    entries: list[Entry], available_tokens: int, count: TokenCounter, latest_user_seq: int
) -> list[Entry]:
    """Truncate all messages to the largest common size that fits.

    If none fits, keep the newest user message only.
    """
    low, high, best = MIN_EXCERPT_TOKENS, available_tokens, None
    while low <= high:
        max_message_tokens = (low + high) // 2
        truncated = [replace(e, message=truncate(e.message, max_message_tokens, count)) for e in entries]
        if _total_tokens(truncated) <= available_tokens:
            best, low = truncated, max_message_tokens + 1
        else:
            high = max_message_tokens - 1
    return best or _keep_latest_user_message(entries, available_tokens, count, latest_user_seq)


def _keep_latest_user_message(
    entries: list[Entry], available_tokens: int, count: TokenCounter, latest_user_seq: int
) -> list[Entry]:
    """Keep an excerpt of the newest user message only.

    One marker replaces everything before it, and one everything after it.
    """
    dropped = {e.group for e in entries if e.message.seq != latest_user_seq}
    remaining = list(_replace_with_markers(entries, dropped, count))
    marker_tokens = _total_tokens(e for e in remaining if e.message.seq != latest_user_seq or e.group in dropped)
    return [
        replace(e, message=truncate(e.message, max(available_tokens - marker_tokens, 1), count))
        if e.group not in dropped
        else e
        for e in remaining
    ]


def truncate(message: Message, max_tokens: int, count: TokenCounter) -> Message:
    """Truncate a message to about `max_tokens`.

    Texts, inputs and outputs become head, tail and pointer; media, pointers.

    Call ids and names stay, so that calls and results stay paired. A message with many small calls can therefore stay
    above `max_tokens`.
    """
    if message.token_count <= max_tokens:
        return message
    min_part_tokens = MIN_EXCERPT_TOKENS // 2
    part_tokens = max(max_tokens // max(len(message.parts), 1) - 12, min_part_tokens)
    while True:
        truncated = _replace_parts(
            message, [_truncate_part(part, part_tokens, count, message.id) for part in message.parts], count
        )
        if truncated.token_count <= max_tokens:
            return truncated
        if part_tokens <= min_part_tokens:
            return _merge_into_excerpt(truncated, message, max_tokens, count)
        part_tokens //= 2


def _merge_into_excerpt(truncated: Message, message: Message, max_tokens: int, count: TokenCounter) -> Message:
    """Merge all parts except calls and results into one excerpt.

    Many small parts cannot be truncated one by one.
    """
    calls = [part for part in truncated.parts if isinstance(part, ToolPart | ToolResultPart)]
    text = parts_text([part for part in message.parts if not isinstance(part, ToolPart | ToolResultPart)])
    if not text:
        return truncated
    available_tokens = max_tokens - message_tokens(message.model_copy(update={"parts": tuple(calls)}), count)[0]
    return _replace_parts(
        message, [TextPart(text=markers.excerpt(text, available_tokens, count, message.id)), *calls], count
    )


def _replace_parts(message: Message, parts: Sequence[MessagePart], count: TokenCounter) -> Message:
    changed = message.model_copy(update={"parts": tuple(parts)})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _truncate_part(part: MessagePart, max_tokens: int, count: TokenCounter, message_id: str) -> MessagePart:
    if isinstance(part, TextPart | DataPart):
        return part.model_copy(update={"text": markers.excerpt(part.text, max_tokens, count, message_id)})
    if isinstance(part, ToolResultPart):
        if result_tokens(part, count) <= max_tokens:
            return part
        output = markers.excerpt(_output_without_media(part, message_id), max_tokens, count, message_id)
        return part.model_copy(update={"output": output, "output_parts": ()})
    if isinstance(part, ToolPart):
        return _truncate_call(part, max_tokens, count, message_id)
    if isinstance(part, FilePart) and part.text is not None:
        return part.model_copy(update={"text": markers.excerpt(part.text, max_tokens, count, message_id)})
    if isinstance(part, ImagePart | FilePart):
        return TextPart(text=markers.omitted_part_marker(part.type, message_id))
    if isinstance(part, FileRefPart):
        summary = markers.excerpt(part.exploration_summary, max_tokens, count, message_id)
        return part.model_copy(update={"exploration_summary": summary})
    if isinstance(part, ReasoningPart) and part.provider is not None and count(part.text) > max_tokens:
        # Providers accept signed reasoning only unchanged.
        return TextPart(text=markers.omitted_part_marker(part.type, message_id))
    return part


def _output_without_media(part: ToolResultPart, message_id: str) -> str:
    """Return the text of an output, with pointers in place of its images and files."""
    if not part.output_parts:
        return part.output
    return parts_text(
        [
            TextPart(text=markers.omitted_part_marker(output.type, message_id))
            if isinstance(output, ImagePart) or (isinstance(output, FilePart) and output.text is None)
            else output
            for output in part.output_parts
        ]
    )


def _truncate_call(part: ToolPart, max_tokens: int, count: TokenCounter, message_id: str) -> ToolPart:
    changes: dict[str, object] = {}
    if part.has_result and result_tokens(part.result(), count) > max_tokens:
        output = markers.excerpt(_output_without_media(part.result(), message_id), max_tokens, count, message_id)
        changes["output" if part.error_message is None else "error_message"] = output
        changes["output_parts"] = ()
    arguments = compact_arguments(part)
    if count(arguments) > max_tokens:
        changes["input"] = {"shortened": markers.excerpt(arguments, max_tokens, count, message_id)}
        changes["raw_input"] = None
    return part.model_copy(update=changes)
