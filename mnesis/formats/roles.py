"""The order of roles that a provider accepts, for rendered chat messages. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mnesis.formats.step import OPENING_TEXT, Step, content_blocks
from mnesis.models.dialects import Dialect

MISSING_REPLY = "[No reply was recorded.]"
"""The assistant message between tool results and the user's next message, for providers that require one."""


def arrange_roles(steps: Iterable[Step], dialect: Dialect, arranged_steps: Iterable[Step] = ()) -> list[Step]:
    """Merge neighbors, add missing replies and let the user begin, if the dialect requires it.

    `arranged_steps` come first and are in order already.
    """
    arranged: list[Step] = list(arranged_steps)
    for step in steps:
        previous = arranged[-1] if arranged else None
        if dialect.user_first and step.role == "assistant" and (previous is None or previous.role == "system"):
            arranged.append(Step({"role": "user", "content": OPENING_TEXT}))
        elif dialect.reply_after_results and previous and previous.role == "tool" and step.role == "user":
            arranged.append(Step({"role": "assistant", "content": MISSING_REPLY}))
        elif dialect.is_alternating and previous and step.role == previous.role and step.role in ("user", "assistant"):
            arranged[-1] = _merge(previous, step)
            continue
        arranged.append(step)
    return arranged


def _merge(first: Step, second: Step) -> Step:
    merged = {**first.message}
    for name, value in second.message.items():
        merged[name] = value if name == "role" else _join(merged.get(name), value, name)
    return replace(
        second, message=merged, tokens=first.tokens + second.tokens, is_summary=first.is_summary and second.is_summary
    )


def _join(first: Any, second: Any, name: str) -> Any:
    if not first or not second:
        return first or second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    if name != "content":
        return [*first, *second] if isinstance(first, list) else second
    return [*content_blocks(first), *content_blocks(second)]
