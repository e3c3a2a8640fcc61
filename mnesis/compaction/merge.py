"""Summaries during a sweep: the one before a chunk, and the ones to merge. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnesis.models.summary import Summary

MERGE_FAN_IN = 4
"""Summaries that are merged into one."""


@dataclass
class PendingSummary:
    """A summary that is in the active context, or will be after this sweep.

    `is_new` marks those of this sweep. `must_merge` marks a leaf that is as long as its messages: it may only
    become the child of another summary.
    """

    summary: Summary
    is_new: bool = False
    must_merge: bool = False


def previous_text(summaries: Iterable[Summary], first_seq: int) -> str:
    """Return the text of the newest summary before a message, or "" if there is none."""
    earlier = [summary for summary in summaries if summary.last_seq < first_seq]
    return max(earlier, key=lambda summary: summary.last_seq).text if earlier else ""


def choose_group(pending: Sequence[PendingSummary], visible_seqs: Sequence[int]) -> list[PendingSummary]:
    """Choose the neighboring summaries to merge next.

    Neighbors have no visible message between them. The choice is the oldest `MERGE_FAN_IN` of the lowest depth that has
    that many neighbors, otherwise the oldest neighbors of any depth. Empty if there are no neighbors.
    """
    rows: list[list[PendingSummary]] = []
    for each in pending:
        last_seq = rows[-1][-1].summary.last_seq if rows else 0
        is_apart = any(last_seq < seq < each.summary.first_seq for seq in visible_seqs)
        if rows and not is_apart:
            rows[-1].append(each)
        else:
            rows.append([each])
    level_rows = [group for row in rows for group in _split_by_depth(row) if len(group) >= MERGE_FAN_IN]
    if level_rows:
        return min(level_rows, key=lambda group: group[0].summary.depth)[:MERGE_FAN_IN]
    candidates = [row for row in rows if len(row) > 1]
    return candidates[0][:MERGE_FAN_IN] if candidates else []


def _split_by_depth(row: Sequence[PendingSummary]) -> list[list[PendingSummary]]:
    groups: list[list[PendingSummary]] = []
    for each in row:
        if groups and groups[-1][-1].summary.depth == each.summary.depth:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups
