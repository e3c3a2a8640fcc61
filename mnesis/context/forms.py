"""Other forms of messages, which a model receives instead of the stored ones. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mnesis.models.context import ActiveContext
from mnesis.models.message import Message


def with_forms(context: ActiveContext, forms: Mapping[int, Message]) -> ActiveContext:
    """Return a context in which messages have other forms, by `seq`. Id, position and role are those of the log."""
    if not forms:
        return context
    items = tuple(
        item.model_copy(
            update={
                "parts": forms[item.seq].parts,
                "token_count": forms[item.seq].token_count,
                "tool_tokens": forms[item.seq].tool_tokens,
            }
        )
        if isinstance(item, Message) and item.seq in forms
        else item
        for item in context.items
    )
    return replace(context, items=items)


def pin_unknown_forms(context: ActiveContext, known_seqs: Collection[int] | None) -> ActiveContext:
    """Return a context in which messages are pinned unless the form that a model received is known.

    `known_seqs` are those; None means all.
    """
    if known_seqs is None:
        return context
    unknown = {item.seq for item in context.items if isinstance(item, Message) and item.seq not in known_seqs}
    return replace(context, pins=context.pins | unknown)
