"""What `set()` means on a log that only grows. Pure: items of the context and the wanted history in, a plan out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
Case = Literal["unchanged", "appended", "rolled_back", "new_epoch", "reset"]


@dataclass(frozen=True, slots=True)
class Item:
    """What stands in the context for messages `first_seq` to `last_seq`; `hashes` are the contents behind it."""

    first_seq: int
    last_seq: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A view that was handed out: the hash of each message and its place in the log (None: said by the view itself)."""

    elements: tuple[tuple[bytes, int | None], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Spans to hide, and the index in the wanted history from which on messages are new."""

    hide: tuple[Span, ...]
    new_from: int
    case: Case


def plan_revision(items: Sequence[Item], views: Sequence[Shown], wanted: Sequence[bytes], last_seq: int) -> Plan:
    """How the history becomes `wanted`, with as little change as possible.

    The whole history, or a view of it, at the front of `wanted`: only what follows is appended. A front of the history:
    what follows it leaves the view. Anything else is a new epoch: messages that stand in the log already stay where they
    are as far as the front of `wanted` is made of them in order, everything else leaves the view, the rest is appended.
    """
    if not wanted:
        return Plan(((1, last_seq),) if items else (), 0, "reset")
    whole = [one for item in items for one in item.hashes]
    if whole == list(wanted[: len(whole)]):
        return Plan((), len(whole), "unchanged" if len(whole) == len(wanted) else "appended")
    for view in views:
        found = _from_view(view, wanted, last_seq)
        if found is not None:
            return found
    kept, matched = _kept(items, wanted)
    hide = tuple(_spans(items, kept))
    rolled_back = matched == len(wanted) and kept == list(range(len(kept)))
    return Plan(hide, matched, "rolled_back" if rolled_back else "new_epoch")


def _from_view(view: Shown, wanted: Sequence[bytes], last_seq: int) -> Plan | None:
    """The plan for a history that begins with a view; None if it does not begin with what the view itself says."""
    hashes = [one for one, _ in view.elements]
    common = 0
    while common < min(len(hashes), len(wanted)) and hashes[common] == wanted[common]:
        common += 1
    if common == len(hashes):
        return Plan((), common, "unchanged" if common == len(wanted) else "appended")
    head = next((i for i, (_, seq) in enumerate(view.elements) if seq is not None), len(hashes))
    if head == 0 or common < head:
        return None
    first_gone = next((seq for _, seq in view.elements[common:] if seq is not None), None)
    if first_gone is None:
        return None
    return Plan(((first_gone, last_seq),), common, "rolled_back" if common == len(wanted) else "new_epoch")


def _kept(items: Sequence[Item], wanted: Sequence[bytes]) -> tuple[list[int], int]:
    """Which items make up a front of `wanted`, and how long that is. An item is kept whole or not at all."""
    kept, matched = [], 0
    for index, item in enumerate(items):
        end = matched + len(item.hashes)
        if item.hashes and end <= len(wanted) and tuple(wanted[matched:end]) == item.hashes:
            kept.append(index)
            matched = end
    return kept, matched


def _spans(items: Sequence[Item], kept: Sequence[int]) -> list[Span]:
    """The items that are not kept, as spans of the log."""
    stays, open_run = set(kept), False
    spans: list[Span] = []
    for index, item in enumerate(items):
        if index in stays:
            open_run = False
        elif open_run:
            spans[-1] = (spans[-1][0], item.last_seq)
        else:
            spans.append((item.first_seq, item.last_seq))
            open_run = True
    return spans
