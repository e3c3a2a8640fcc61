"""Which messages a sweep folds. Pure functions, no I/O.

The two newest user turns stay unchanged. Older turns are folded unless they fit below the low-water mark; the cut is
made between turns. If the newest turns have tool steps and take more than their share, or do not fit the window, they
are cut as well, between a call's results and the next call. The newest user message is always kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mnesis.context.turns import turn_starts
from mnesis.models.context import ActiveContext, Budget, Prune
from mnesis.models.message import Message, ReasoningPart
from mnesis.models.summary import Summary

FRESH_TURNS = 2
"""The number of newest user turns that are not folded as long as they fit."""

FRESH_STEPS = 2
"""The number of newest steps that remain when `max_fresh_tokens` cuts the fresh turns."""


@dataclass(frozen=True, slots=True)
class MessageSpan:
    """Consecutive messages of the active context to fold, and the tokens they take there."""

    messages: tuple[Message, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """The spans to fold, oldest first. Empty if there is nothing to fold."""

    spans: tuple[MessageSpan, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that the spans take in the context now."""
        return sum(span.tokens for span in self.spans)


def visible_tokens(message: Message, prunes: dict[tuple[int, int], Prune]) -> int:
    """Return the tokens of a message in the context, where pruned outputs are markers."""
    if not prunes:
        return message.token_count
    saved = sum(prunes[key].tokens_saved for i in range(len(message.parts)) if (key := (message.seq, i)) in prunes)
    return message.token_count - saved


def plan_fold(
    context: ActiveContext,
    budget: Budget,
    *,
    keep_tokens: int,
    fold_all: bool = False,
    may_cut_fresh_turns: bool = False,
    max_fresh_tokens: int | None = None,
) -> FoldPlan:
    """Choose the messages to fold.

    Turns older than the fresh ones are kept while everything kept takes at most `keep_tokens`; with `fold_all` none of
    them is kept. With `may_cut_fresh_turns`, the fresh turns are cut if they alone do not fit. With `max_fresh_tokens`,
    fresh turns with tool steps are also cut to that size if they take more than it and `keep_tokens`.
    """
    messages = [item for item in context.items if isinstance(item, Message)]
    tokens = [visible_tokens(message, context.prunes) for message in messages]
    starts = turn_starts(messages)
    fresh_start = starts[-FRESH_TURNS] if len(starts) > FRESH_TURNS else 0
    cut_index = fresh_start if fold_all else _find_cut_between_turns(starts, tokens, fresh_start, keep_tokens)
    foldable = set(range(cut_index))
    fixed_tokens = context.session.system_tokens + context.session.summary_tokens
    is_too_long = max_fresh_tokens is not None and sum(tokens[cut_index:]) > max(max_fresh_tokens, keep_tokens)
    if max_fresh_tokens is not None and is_too_long and not fold_all and _has_tool_steps(messages[fresh_start:]):
        foldable = _foldable_inside_turns(messages, tokens, max_fresh_tokens, FRESH_STEPS)
    if (
        may_cut_fresh_turns
        and fixed_tokens + sum(t for i, t in enumerate(tokens) if i not in foldable) >= budget.usable_tokens
    ):
        foldable = _foldable_inside_turns(messages, tokens, budget.low_water_tokens, 1)
    foldable -= _pinned_indices(messages, context.pins)
    return FoldPlan(tuple(_group_into_spans(context.items, messages, tokens, foldable)))


def plan_fold_to_keep(context: ActiveContext, keep_tokens: int) -> FoldPlan:
    """Choose the messages to fold so that the others take at most `keep_tokens`. Whole turns are kept, newest first. If
    the newest turn alone does not fit, it is cut between a call's results and the next call. The newest user message,
    the newest step and pinned messages are always kept.
    """
    messages = [item for item in context.items if isinstance(item, Message)]
    tokens = [visible_tokens(message, context.prunes) for message in messages]
    starts = turn_starts(messages)
    if starts and sum(tokens[starts[-1] :]) <= keep_tokens:
        foldable = set(range(_find_cut_between_turns(starts, tokens, starts[-1], keep_tokens)))
    else:
        foldable = _foldable_inside_turns(messages, tokens, keep_tokens, 1)
    foldable -= _pinned_indices(messages, context.pins)
    return FoldPlan(tuple(_group_into_spans(context.items, messages, tokens, foldable)))


def _has_tool_steps(messages: Sequence[Message]) -> bool:
    return any(message.role == "tool" or message.tool_calls for message in messages)


def _pinned_indices(messages: Sequence[Message], pins: frozenset[int]) -> set[int]:
    """Return the indices of pinned messages. A call and its results are pinned together."""
    if not pins:
        return set()
    group_starts = [i for i, message in enumerate(messages) if i == 0 or message.role != "tool"]
    groups = [range(start, end) for start, end in pairwise([*group_starts, len(messages)])]
    return {i for group in groups if any(messages[i].seq in pins for i in group) for i in group}


def _find_cut_between_turns(starts: Sequence[int], tokens: Sequence[int], fresh_start: int, keep_tokens: int) -> int:
    """Return the index of the first message to keep.

    It is at most `fresh_start`, and the start of the earliest turn from which everything to the end fits into
    `keep_tokens`.
    """
    kept_tokens = sum(tokens[fresh_start:])
    cut_index = fresh_start
    for start in reversed([start for start in starts if start < fresh_start]):
        kept_tokens += sum(tokens[start:cut_index])
        if kept_tokens > keep_tokens:
            break
        cut_index = start
    return cut_index


def _foldable_inside_turns(
    messages: Sequence[Message], tokens: Sequence[int], keep_tokens: int, min_steps: int
) -> set[int]:
    """Return the indices to fold when turns may be cut.

    The newest user message is kept, and as many of the newest steps as fit into `keep_tokens`, at least `min_steps`. A
    step is a message and the tool results that follow it. The thinking that must open a tool loop at the end is kept
    too.
    """
    latest_user_index = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    step_starts = [i for i, message in enumerate(messages) if i == 0 or message.role != "tool"]
    cut_index, kept_tokens = len(messages), 0
    for steps, start in enumerate(reversed(step_starts)):
        kept_tokens += sum(tokens[start:cut_index])
        if kept_tokens > keep_tokens and steps >= min_steps:
            break
        cut_index = start
    kept = {latest_user_index, *_step_with_thinking(messages, step_starts, latest_user_index, cut_index)}
    return {i for i in range(cut_index) if i not in kept}


def _step_with_thinking(
    messages: Sequence[Message], step_starts: Sequence[int], latest_user_index: int, cut_index: int
) -> range:
    """Return the indices of the step that must open the rest of the tool loop at the end. Empty if none must.

    Claude demands that a loop begins with the thinking that opened it (platform.claude.com, extended-thinking). If the
    first step that is kept has no thinking, the newest older step of the loop with thinking is kept too.
    """
    if not messages or messages[-1].role != "tool" or _has_signed_reasoning(messages[cut_index : cut_index + 1]):
        return range(0)
    for start, end in reversed(list(pairwise([*step_starts, len(messages)]))):
        if latest_user_index < start < cut_index and _has_signed_reasoning(messages[start : start + 1]):
            return range(start, end)
    return range(0)


def _has_signed_reasoning(messages: Sequence[Message]) -> bool:
    return any(isinstance(part, ReasoningPart) and part.provider is not None for m in messages for part in m.parts)


def _group_into_spans(
    items: Sequence[Summary | Message], messages: Sequence[Message], tokens: Sequence[int], foldable: set[int]
) -> list[MessageSpan]:
    """Group foldable messages into spans without a gap."""
    groups: list[list[int]] = []
    index, is_adjacent = 0, False
    for item in items:
        if isinstance(item, Summary):
            is_adjacent = False
            continue
        if index in foldable:
            if is_adjacent and messages[index - 1].seq + 1 == item.seq:
                groups[-1].append(index)
            else:
                groups.append([index])
            is_adjacent = True
        else:
            is_adjacent = False
        index += 1
    return [MessageSpan(tuple(messages[i] for i in group), sum(tokens[i] for i in group)) for group in groups]


def split_span(span: MessageSpan, prunes: dict[tuple[int, int], Prune], max_tokens: int) -> list[MessageSpan]:
    """Split a span into pieces of about `max_tokens` at most.

    Cuts are made between turns where possible, and never between a call and its results.
    """
    starts = set(turn_starts(span.messages))
    pieces: list[list[Message]] = [[]]
    piece_tokens = 0
    for index, message in enumerate(span.messages):
        tokens = message.token_count
        is_full = piece_tokens + tokens > max_tokens and message.role != "tool"
        may_end_here = piece_tokens > max_tokens * 3 // 4 and index in starts
        if pieces[-1] and (is_full or may_end_here):
            pieces.append([])
            piece_tokens = 0
        pieces[-1].append(message)
        piece_tokens += tokens
    return [MessageSpan(tuple(piece), sum(visible_tokens(m, prunes) for m in piece)) for piece in pieces if piece]
