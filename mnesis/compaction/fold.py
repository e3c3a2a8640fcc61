"""What a sweep folds. Pure: an active context and a budget in, a plan out.

The two newest user turns stay as they are. What is older and not needed to fill the low-water mark is folded, cut between
turns. Only when even the newest turns leave no room in the window (law: it always fits) are they cut too, between a tool
call's results and the next call, and the newest user message stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mnesis.models.context import ActiveContext, Budget, Prune
from mnesis.models.message import Message
from mnesis.models.summary import Summary

FRESH_TURNS = 2
FRESH_STEPS = 3
# A stand-in for the summaries that a sweep is going to write, before they exist.
EXPECTED_SUMMARY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring messages of the active context that are to be folded."""

    messages: tuple[Message, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """Runs to fold, oldest first, and how many tokens they take in the context now. Empty if there is nothing to fold."""

    runs: tuple[Run, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(run.tokens for run in self.runs)


def visible_tokens(message: Message, prunes: dict[tuple[int, int], Prune]) -> int:
    """What a message takes in the context, with the outputs that are shown as markers left out."""
    if not prunes:
        return message.token_count
    saved = sum(prunes[key].tokens_saved for i in range(len(message.parts)) if (key := (message.seq, i)) in prunes)
    return message.token_count - saved


def plan_fold(
    context: ActiveContext,
    budget: Budget,
    *,
    keep_tokens: int,
    everything: bool = False,
    pressed: bool = False,
    fresh_tokens: int | None = None,
) -> FoldPlan:
    """Which messages to fold.

    `keep_tokens` is how much of the newest conversation may stay beyond the fresh turns; with `everything` none does. With
    `pressed` the fresh turns may be cut as well if they alone do not fit; with `fresh_tokens` also if they take more.
    """
    messages = [item for item in context.items if isinstance(item, Message)]
    tokens = [visible_tokens(message, context.prunes) for message in messages]
    starts = turn_starts(messages)
    fresh = starts[-FRESH_TURNS] if len(starts) > FRESH_TURNS else 0
    cut = fresh if everything else _cut_at_turn(starts, tokens, fresh, keep_tokens)
    foldable = set(range(cut))
    fixed = context.session.system_tokens + context.session.summary_tokens
    if fresh_tokens is not None and not everything and sum(tokens[cut:]) > max(fresh_tokens, keep_tokens):
        foldable = _cut_inside_turns(messages, tokens, max(fresh_tokens, keep_tokens), FRESH_STEPS)
    if pressed and fixed + sum(t for i, t in enumerate(tokens) if i not in foldable) >= budget.usable_tokens:
        foldable = _cut_inside_turns(messages, tokens, budget.low_water_tokens, 1)
    foldable -= _pinned(messages, context.pins)
    return FoldPlan(tuple(_runs(context.items, messages, tokens, foldable)))


def _pinned(messages: Sequence[Message], pins: frozenset[int]) -> set[int]:
    """Messages that stay: those that are pinned, and with a call its results, with a result its call."""
    if not pins:
        return set()
    bounds = [i for i, message in enumerate(messages) if i == 0 or message.role != "tool"]
    atoms = [range(start, end) for start, end in pairwise([*bounds, len(messages)])]
    return {i for atom in atoms if any(messages[i].seq in pins for i in atom) for i in atom}


def turn_starts(messages: Sequence[Message]) -> list[int]:
    """Where user turns begin: each user message that does not directly follow another."""
    return [
        i for i, message in enumerate(messages) if message.role == "user" and (i == 0 or messages[i - 1].role != "user")
    ]


def _cut_at_turn(starts: Sequence[int], tokens: Sequence[int], fresh: int, keep_tokens: int) -> int:
    """The earliest turn from which on everything fits into `keep_tokens`; the fresh turns at the latest."""
    kept = sum(tokens[fresh:])
    cut = fresh
    for start in reversed([start for start in starts if start < fresh]):
        kept += sum(tokens[start:cut])
        if kept > keep_tokens:
            break
        cut = start
    return cut


def _cut_inside_turns(
    messages: Sequence[Message], tokens: Sequence[int], keep_tokens: int, least_steps: int
) -> set[int]:
    """Everything but the newest user message and as many of the newest steps (a message with the tool results that follow
    it) as `keep_tokens` hold, `least_steps` at least."""
    asked = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    bounds = [i for i, message in enumerate(messages) if i == 0 or message.role != "tool"]
    cut, kept = len(messages), 0
    for steps, start in enumerate(reversed(bounds)):
        kept += sum(tokens[start:cut])
        if kept > keep_tokens and steps >= least_steps:
            break
        cut = start
    return {i for i in range(cut) if i != asked}


def _runs(
    items: Sequence[Summary | Message], messages: Sequence[Message], tokens: Sequence[int], foldable: set[int]
) -> list[Run]:
    """Foldable messages grouped into runs that nothing else interrupts."""
    runs: list[list[int]] = []
    index, touching = 0, False
    for item in items:
        if isinstance(item, Summary):
            touching = False
            continue
        if index in foldable:
            if touching and messages[index - 1].seq + 1 == item.seq:
                runs[-1].append(index)
            else:
                runs.append([index])
            touching = True
        else:
            touching = False
        index += 1
    return [Run(tuple(messages[i] for i in run), sum(tokens[i] for i in run)) for run in runs]


def chunks(run: Run, prunes: dict[tuple[int, int], Prune], max_tokens: int) -> list[Run]:
    """A run in pieces of at most about `max_tokens`, cut between turns where that is possible, never between a call and its results."""
    starts = set(turn_starts(run.messages))
    pieces: list[list[Message]] = [[]]
    size = 0
    for index, message in enumerate(run.messages):
        tokens = message.token_count
        full = size + tokens > max_tokens and message.role != "tool"
        nearly = size > max_tokens * 3 // 4 and index in starts
        if pieces[-1] and (full or nearly):
            pieces.append([])
            size = 0
        pieces[-1].append(message)
        size += tokens
    return [Run(tuple(piece), sum(visible_tokens(m, prunes) for m in piece)) for piece in pieces if piece]
