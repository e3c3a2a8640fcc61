"""Assembly of one window from the active context, within a budget. Pure functions, no I/O.

Usually everything fits, because compaction keeps the context small. If it does not fit (a message is larger than the
window, automatic compaction is off, or a summary is late), the window is reduced, and nothing is dropped silently:

1. Messages that alone take more than half of the budget are truncated to head, tail and a pointer.
2. The oldest messages are dropped, and a marker names each span of them. The newest user message is kept.
3. The remaining messages are truncated evenly until they fit.

Step 2 drops messages in strides, so that the beginning of the window stays the same for many requests.

Most windows are the one before and a few messages. `assemble_next` continues an earlier window then.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from mnesis.context import markers
from mnesis.context.excerpts import MIN_EXCERPT_TOKENS, truncate
from mnesis.context.layout import fit_layout, lay_out
from mnesis.context.repair import Entry, window_entries
from mnesis.errors import ContextIrreducibleError
from mnesis.formats.text import is_plain_text
from mnesis.models.context import ActiveContext, Budget, Window, WindowOptions
from mnesis.models.message import Message, TextPart
from mnesis.models.summary import Summary
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter, message_tokens

LARGE_FRACTION = 0.5
"""Messages that take more than this fraction of the available tokens are truncated first."""

EXCERPT_FRACTION = 0.25
"""The size to which these messages are truncated, as a fraction of the available tokens."""

STRIDE_FRACTION = 0.25
"""Messages are dropped in multiples of this fraction of the available tokens."""

MARKER_TOKENS = 60
"""A message that is a marker, counted in the same way."""

MIN_AVAILABLE_TOKENS = MIN_EXCERPT_TOKENS + 2 * MARKER_TOKENS
"""The newest user message as an excerpt, with a marker on each side."""

SMALL_LAYOUT = WindowOptions(starts_with_user=True)
"""The layout of windows with fewer tokens than that."""


def assemble(
    context: ActiveContext,
    *,
    budget_tokens: int,
    count: TokenCounter,
    system_prompt: str | None = None,
    reserved_tokens: int = 0,
    options: WindowOptions | None = None,
) -> Window:
    """Assemble the window for one request in at most `budget_tokens`.

    The budget includes the system prompt and `reserved_tokens`. `reserved_tokens` is the size of the tool definitions
    in the request. `system_prompt` None uses the session's. `options` change the layout. The same arguments give the
    same window.

    Raises `ContextIrreducibleError` if the system prompt and the reserve leave too few tokens for a conversation.
    """
    return assemble_next(
        None,
        context,
        budget_tokens=budget_tokens,
        count=count,
        system_prompt=system_prompt,
        reserved_tokens=reserved_tokens,
        options=options,
    ).window


def assemble_next(
    earlier: Assembly | None,
    context: ActiveContext,
    *,
    budget_tokens: int,
    count: TokenCounter,
    system_prompt: str | None = None,
    reserved_tokens: int = 0,
    options: WindowOptions | None = None,
    budget: Budget | None = None,
) -> Assembly:
    """Assemble the window that `assemble` returns, from an earlier one if its context only lacks the newest messages.

    `budget` becomes that of the window. Raises what `assemble` raises.
    """
    session = context.session
    prompt = session.system_prompt if system_prompt is None else system_prompt
    system_tokens = session.system_tokens if prompt == session.system_prompt else _prompt_tokens(prompt, count)
    available_tokens = budget_tokens - system_tokens - reserved_tokens
    has_default_layout = options is None or options == WindowOptions()
    content = _extend(earlier, context, available_tokens) if earlier is not None and has_default_layout else None
    if content is not None and earlier is not None:
        file_ids, derived_extras = earlier.window.file_ids, earlier.derived_extras
    else:
        entries = window_entries(context, count)
        if has_default_layout:
            content = _reduce(entries, available_tokens, count, context)
        elif options is not None:
            content = _lay_out(entries, available_tokens, count, options)
        if content is None:
            raise _irreducible_error(system_tokens, reserved_tokens, budget_tokens)
        file_ids, derived_extras = _file_ids(context), _derived_extras(content.messages, context)
    window = Window(
        messages=content.messages,
        system_prompt=prompt,
        system_tokens=system_tokens,
        tokens=system_tokens + reserved_tokens + content.tokens,
        budget_tokens=budget_tokens,
        omitted=content.omitted,
        hides_content=bool(context.covers or context.prunes or content.omitted),
        file_ids=file_ids,
        reserved_tokens=reserved_tokens,
        system_messages=content.system_messages,
        preface=content.preface,
        session=session,
        budget=budget,
    )
    return Assembly(context, window, content, derived_extras)


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a window without the system prompt, and the number of messages of the context that it leaves out.

    `is_whole` says that it shows everything of the context, in the default layout.
    """

    messages: tuple[Message, ...]
    tokens: int
    omitted: int = 0
    system_messages: tuple[Message, ...] = ()
    preface: tuple[Message, ...] = ()
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Assembly:
    """A window, and the state from which the next one continues."""

    context: ActiveContext
    window: Window
    content: _Content
    derived_extras: tuple[dict[str, Any], ...]
    """The empty dicts of messages that are not in the log, such as those of summaries. A reader may have filled one."""


def _extend(earlier: Assembly, context: ActiveContext, available_tokens: int) -> _Content | None:
    """Return earlier content with the messages that were appended since. None if it has to be assembled again."""
    content, old_items, items = earlier.content, earlier.context.items, context.items
    added = items[len(old_items) :]
    if (
        not content.is_whole
        or len(old_items) > len(items)
        or not (old_items is items or all(map(operator.is_, old_items, items)))
        or context.prunes != earlier.context.prunes
        or any(earlier.derived_extras)
    ):
        return None
    # Calls and results depend on their neighbors, and a summary is not at the end.
    new_messages = [item for item in added if isinstance(item, Message) and item.role != "tool" and is_plain_text(item)]
    tokens = content.tokens + sum([message.token_count for message in new_messages])
    if len(new_messages) < len(added) or tokens > available_tokens:
        return None
    return replace(content, messages=(*content.messages, *new_messages), tokens=tokens) if new_messages else content


def _derived_extras(messages: Iterable[Message], context: ActiveContext) -> tuple[dict[str, Any], ...]:
    stored = set(map(id, context.items))
    return tuple([message.extra for message in messages if id(message) not in stored and not message.extra])


def _reduce(
    entries: list[Entry], available_tokens: int, count: TokenCounter, context: ActiveContext
) -> _Content | None:
    """Return the entries, reduced if they do not fit. None if too few tokens are available."""
    tokens, omitted_count = _total_tokens(entries), 0
    is_whole = tokens <= available_tokens
    if not is_whole:
        if available_tokens < MIN_AVAILABLE_TOKENS:
            return _show_newest(entries, available_tokens, count)
        entries, omitted_count = _fit(entries, available_tokens, count, _latest_user_seq(context))
        tokens = _total_tokens(entries)
    return _Content(tuple([entry.message for entry in entries]), tokens, omitted_count, is_whole=is_whole)


def _show_newest(entries: Sequence[Entry], available_tokens: int, count: TokenCounter) -> _Content | None:
    """Return the newest turns that fit where markers would not. None if the newest message alone does not fit."""
    if not entries or entries[-1].message.token_count > available_tokens:
        return None
    return _lay_out(entries, available_tokens, count, SMALL_LAYOUT)


def _lay_out(
    entries: Sequence[Entry], available_tokens: int, count: TokenCounter, options: WindowOptions
) -> _Content | None:
    """Return the content in the layout of the options. None if it cannot fit, unless the newest message may exceed the budget."""
    layout = lay_out([entry.message for entry in entries], options, count)
    layout = fit_layout(layout, available_tokens, count, keeps_newest_message=options.keeps_newest_message)
    preface = layout.preface(count)
    turns = tuple(message for turn in layout.turns for message in turn)
    is_inline = options.summaries == "inline"
    content = _Content(
        messages=(*preface, *turns) if is_inline else turns,
        tokens=sum(message.token_count for message in (*layout.system_messages, *preface, *turns)),
        omitted=len(layout.omitted),
        system_messages=tuple(layout.system_messages),
        preface=() if is_inline else preface,
    )
    return content if content.tokens <= available_tokens or options.keeps_newest_message else None


def _prompt_tokens(prompt: str, count: TokenCounter) -> int:
    return count(prompt) + MESSAGE_OVERHEAD_TOKENS if prompt else 0


def _latest_user_seq(context: ActiveContext) -> int:
    return max((item.seq for item in context.items if isinstance(item, Message) and item.role == "user"), default=0)


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
    return sum([entry.message.token_count for entry in entries])


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
