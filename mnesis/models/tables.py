"""Tables of messages, summaries and map results, for the values that display themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from reprlib import Repr
from typing import Any

from mnesis.display.panel import MAX_ROWS, Panel, Table, format_span
from mnesis.display.text import one_line
from mnesis.models.message import Message
from mnesis.models.summary import Summary

PREVIEW_CHARS = 100

_brief = Repr()
_brief.maxstring = _brief.maxother = PREVIEW_CHARS


def message_table(messages: Sequence[Message]) -> Table:
    """Build a table with the seq, role, size and beginning of each message."""
    rows = [_message_row(message) for message in messages[:MAX_ROWS]]
    return Table(("seq", "role", "tokens", "begins"), rows, ("seq", "tokens"), len(messages) - len(rows))


def summary_table(summaries: Sequence[Summary]) -> Table:
    """Build a table with the id, kind, span, size and beginning of each summary."""
    rows = [
        (s.id, s.kind, format_span(s.first_seq, s.last_seq), f"{s.token_count:,}", s.text) for s in summaries[:MAX_ROWS]
    ]
    return Table(("id", "kind", "messages", "tokens", "begins"), rows, ("tokens",), len(summaries) - len(rows))


def _message_row(message: Message) -> tuple[str, ...]:
    role = "summary" if message.is_summary else message.role
    text = next((part.text for part in message.parts if part.type == "text" and part.text), "")
    tool_names = ", ".join(part.tool_name for part in message.tool_calls)
    return str(message.seq), role, f"{message.token_count:,}", text or tool_names or _other(message)


def _other(message: Message) -> str:
    outputs = (part.output for part in message.parts if part.type == "tool_result")
    return next((output for output in outputs if output), "") or "(no text)"


def excerpt_around(line: str, match: str, chars: int = PREVIEW_CHARS) -> str:
    """Return `line` on one line; of a long line only the part that starts shortly before `match`."""
    start = line.find(match)
    if len(line) <= chars or start < chars // 2:
        return one_line(line, chars)
    return "…" + one_line(line[start - chars // 4 :], chars - 1)


def batch_panel(name: str, batch: Any, results: Iterable[Any]) -> Panel:
    """Build the panel of a map run: its sums and its results. `results` are those of `batch`, failures first."""
    rows = [_result_row(result) for _, result in zip(range(MAX_ROWS), results, strict=False)]
    facts = (
        ("items", f"{batch.total:,}"),
        ("failed", f"{len(batch.failures):,}"),
        ("attempts", f"{batch.total_attempts:,}"),
        ("tokens", f"{batch.usage.effective_total():,}"),
        ("cost", f"${batch.cost:.4f}"),
    )
    table = Table(("item", "outcome", "attempts", "begins"), rows, ("item", "attempts"), batch.total - len(rows))
    return Panel(f"{name} {batch.run_id}".rstrip(), (), facts, (table,) if rows else ())


def _result_row(result: Any) -> tuple[str, ...]:
    if not result.success:
        return str(result.index), result.error_kind or "failed", str(result.attempts), result.error or ""
    output = result.output
    text = output if isinstance(output, str) else _brief.repr(output)
    return str(result.index), "resumed" if result.resumed else "ok", str(result.attempts), text
