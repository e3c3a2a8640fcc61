"""The plan of a `set()` on an append-only log: what to hide and what to append. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
Case = Literal["unchanged", "appended", "rolled_back", "new_epoch", "reset"]


@dataclass(frozen=True, slots=True)
class ContextItem:
    """A message or summary of the context that covers `first_seq` to `last_seq`, with the digests of these messages."""

    first_seq: int
    last_seq: int
    digests: tuple[bytes, ...]
    summary_id: str | None = None


@dataclass(frozen=True, slots=True)
class SeenView:
    """A view that was returned: the digest and seq of each message. The seq is None if the view added the message."""

    digests: tuple[tuple[bytes, int | None], ...]


@dataclass(frozen=True, slots=True)
class RevisionPlan:
    """The spans to hide, and the index of the first new message in the target history.

    `unfold` is a summary whose originals must first be shown again; the plan is then made from the context with them.
    """

    hide: tuple[Span, ...]
    new_from: int
    case: Case
    unfold: str | None = None


def plan_revision(
    items: Sequence[ContextItem], views: Sequence[SeenView], target: Sequence[bytes], last_seq: int
) -> RevisionPlan:
    """Plan how the history becomes `target` with as few changes as possible.

    - If `target` starts with the whole history, or with a view of it, only the messages after it are appended. - If
    `target` is a prefix of the history, the messages after it are hidden. - Otherwise it is a new epoch: stored
    messages remain as far as the beginning of `target` consists of them in order. All
      others are hidden, and the rest of `target` is appended.
    """
    if not target:
        return RevisionPlan(((1, last_seq),) if items else (), 0, "reset")
    history = [digest for item in items for digest in item.digests]
    if history == list(target[: len(history)]):
        return RevisionPlan((), len(history), "unchanged" if len(history) == len(target) else "appended")
    for view in views:
        plan = _plan_from_view(view, target, last_seq)
        if plan is not None:
            return plan
    summary_id = _find_divided_summary(items, target)
    if summary_id is not None:
        return RevisionPlan((), 0, "new_epoch", unfold=summary_id)
    kept, matched = _match_items(items, target)
    hide = tuple(_unmatched_spans(items, kept))
    is_rollback = matched == len(target) and kept == list(range(len(kept)))
    return RevisionPlan(hide, matched, "rolled_back" if is_rollback else "new_epoch")


def _find_divided_summary(items: Sequence[ContextItem], target: Sequence[bytes]) -> str | None:
    """Return the summary in which the history and `target` diverge, or at whose end `target` ends; None if there is
    none.
    """
    matched = 0
    for item in items:
        end = matched + len(item.digests)
        if tuple(target[matched:end]) == item.digests and end < len(target):
            matched = end
            continue
        is_divided = matched < len(target) and bool(item.digests) and target[matched] == item.digests[0]
        return item.summary_id if is_divided else None
    return None


def _plan_from_view(view: SeenView, target: Sequence[bytes], last_seq: int) -> RevisionPlan | None:
    """Plan a history that starts with a view; None if it does not start with the messages that the view added."""
    view_digests = [digest for digest, _ in view.digests]
    common_length = 0
    while common_length < min(len(view_digests), len(target)) and view_digests[common_length] == target[common_length]:
        common_length += 1
    if common_length == len(view_digests):
        return RevisionPlan((), common_length, "unchanged" if common_length == len(target) else "appended")
    preface_length = next((i for i, (_, seq) in enumerate(view.digests) if seq is not None), len(view_digests))
    if preface_length == 0 or common_length < preface_length:
        return None
    first_removed_seq = next((seq for _, seq in view.digests[common_length:] if seq is not None), None)
    if first_removed_seq is None:
        return None
    return RevisionPlan(
        ((first_removed_seq, last_seq),), common_length, "rolled_back" if common_length == len(target) else "new_epoch"
    )


def _match_items(items: Sequence[ContextItem], target: Sequence[bytes]) -> tuple[list[int], int]:
    """Return the indexes of the items that form the beginning of `target`, and its length. Items are never split."""
    kept, matched = [], 0
    for index, item in enumerate(items):
        end = matched + len(item.digests)
        if item.digests and end <= len(target) and tuple(target[matched:end]) == item.digests:
            kept.append(index)
            matched = end
    return kept, matched


def _unmatched_spans(items: Sequence[ContextItem], kept: Sequence[int]) -> list[Span]:
    """Return the spans of the items that are not kept."""
    kept_indexes, is_span_open = set(kept), False
    spans: list[Span] = []
    for index, item in enumerate(items):
        if index in kept_indexes:
            is_span_open = False
        elif is_span_open:
            spans[-1] = (spans[-1][0], item.last_seq)
        else:
            spans.append((item.first_seq, item.last_seq))
            is_span_open = True
    return spans
