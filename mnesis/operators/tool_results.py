"""What a model is shown of many results: as much as its tokens allow, and how to get the rest."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from mnesis.models.run import RunItem
from mnesis.tokens.estimator import TokenEstimator

NOTE_TOKENS = 100
LONGEST_TOKEN_CHARACTERS = 16
"""Texts of more characters per token do not occur; more than so many characters need not be kept to fill a result."""


def shortened(text: str, tokens: int) -> str:
    """`text` if it takes no more than `tokens`, else its beginning and a word about the rest."""
    count = TokenEstimator().estimate
    if count(text) <= tokens:
        return text
    kept = text[: tokens * 4]
    while kept and count(kept) > tokens - NOTE_TOKENS:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}\n[… {len(text) - len(kept):,} more characters were left out. Ask for a shorter result.]"


def report(
    head: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    tokens: int,
    rest: Callable[[Mapping[str, Any]], str],
    *,
    total: int | None = None,
) -> str:
    """Results as JSON of at most about `tokens` tokens: as many rows as fit, in order, then how to get the rest.

    The first row is cut if even it does not fit. `rest` says, after the last row shown, where the others are. `total` is
    how many there are where that is more than the rows."""
    count = TokenEstimator().estimate
    left = tokens - count(_json(head)) - NOTE_TOKENS
    shown: list[Any] = []
    for row in rows:
        left -= count(_json(row)) + 1
        if left < 0 and shown:
            break
        shown.append(row if left >= 0 else _cut(row, left + count(_json(row))))
    whole = dict(head) | {"results": shown}
    missing = (len(rows) if total is None else total) - len(shown)
    if missing > 0 and shown:
        whole |= {"not_shown": missing, "the_rest": rest(shown[-1])}
    return _json(whole)


async def mapped(running: AsyncGenerator[Any, None], output_file: str, tokens: int) -> str:
    """Everything that comes of a map, counted; as much as the model can be shown, kept."""
    rows: list[dict[str, Any]] = []
    size, counts, run_id = 0, [0, 0], ""
    async with aclosing(running) as results:
        async for result in results:
            run_id = result.run_id
            counts[result.success] += 1
            if size <= tokens * LONGEST_TOKEN_CHARACTERS:
                rows.append(_row(result.index, result.success, result.output, result.error))
                size += len(_json(rows[-1]))
    head: dict[str, Any] = {"run_id": run_id, "total": sum(counts), "succeeded": counts[True], "failed": counts[False]}
    if output_file:
        head["output_file"] = output_file
    return report(head, rows, tokens, way_on(run_id, output_file), total=sum(counts))


def way_on(run_id: str, output_file: str) -> Callable[[Mapping[str, Any]], str]:
    """What a model is told of results that are not shown, after the last one that is."""

    def told(last: Mapping[str, Any]) -> str:
        if output_file:
            return f"all results are in {output_file}"
        after = {"run_id": run_id, "after_index": last["index"]}
        return f"read on with map_results({_json(after)}) if you have that tool; else give fewer items at a time"

    return told


def _row(index: int, success: bool, output: Any, error: object) -> dict[str, Any]:
    return {"index": index, "output": output} if success else {"index": index, "error": str(error)}


def stored_row(item: RunItem) -> dict[str, Any]:
    """An item as the database has it."""
    if item.outcome is None:
        return {"index": item.index, "state": item.state}
    record = json.loads(item.outcome)["record"]
    return _row(item.index, item.state == "done", record.get("output"), record.get("error"))


def _cut(row: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """A row that says as much of itself as fits."""
    return {name: value if isinstance(value, int) else shortened(_json(value), tokens) for name, value in row.items()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
