"""Results of operator tools as text for a model, within a limit of tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from mnesis.models.run import RunItem
from mnesis.tokens.estimator import TokenEstimator

NOTE_TOKENS = 100
"""Tokens reserved for the note on omissions."""

MAX_CHARS_PER_TOKEN = 16
"""More characters per token do not occur in practice. Bounds how many results are kept in memory."""

MIN_CHARS_PER_TOKEN = 4
"""Characters per token of the first attempt at truncating a text."""


def truncate_to_tokens(text: str, max_tokens: int) -> str:
    """Return `text`, or its beginning and a note if it has more than `max_tokens` tokens."""
    count_tokens = TokenEstimator().estimate
    if count_tokens(text) <= max_tokens:
        return text
    kept = text[: max_tokens * MIN_CHARS_PER_TOKEN]
    while kept and count_tokens(kept) > max_tokens - NOTE_TOKENS:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}\n[… {len(text) - len(kept):,} more characters were left out. Ask for a shorter result.]"


def format_results(
    header: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    max_tokens: int,
    continuation: Callable[[Mapping[str, Any]], str],
    *,
    total: int | None = None,
) -> str:
    """Format results as JSON of at most about `max_tokens` tokens.

    Shows as many rows as fit, in order. If the first row does not fit, it is truncated. `continuation` returns the
    instruction for getting the rest, given the last row shown. `total` is the number of all results, if there are more
    than `rows`.
    """
    count_tokens = TokenEstimator().estimate
    available_tokens = max_tokens - count_tokens(_to_json(header)) - NOTE_TOKENS
    shown: list[Any] = []
    for row in rows:
        row_tokens = count_tokens(_to_json(row))
        fits = available_tokens > row_tokens
        if not fits and shown:
            break
        shown.append(row if fits else _truncate_row(row, available_tokens - 1))
        available_tokens -= row_tokens + 1
    result = dict(header) | {"results": shown}
    missing = (len(rows) if total is None else total) - len(shown)
    if missing > 0 and shown:
        result |= {"not_shown": missing, "the_rest": continuation(shown[-1])}
    return _to_json(result)


async def collect_map_results(run: AsyncGenerator[Any, None], output_file: str, max_tokens: int) -> str:
    """Run a map to its end and format its results. It counts all results, but keeps only those that can be shown."""
    rows: list[dict[str, Any]] = []
    chars, counts, run_id = 0, [0, 0], ""
    async with aclosing(run) as results:
        async for result in results:
            run_id = result.run_id
            counts[result.success] += 1
            if chars <= max_tokens * MAX_CHARS_PER_TOKEN:
                rows.append(_result_row(result.index, result.success, result.output, result.error))
                chars += len(_to_json(rows[-1]))
    header: dict[str, Any] = {
        "run_id": run_id, "total": sum(counts), "succeeded": counts[True], "failed": counts[False],
    }  # fmt: skip
    if output_file:
        header["output_file"] = output_file
    return format_results(header, rows, max_tokens, continuation_hint(run_id, output_file), total=sum(counts))


def continuation_hint(run_id: str, output_file: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a function from the last row shown to a note that locates the remaining results."""

    def hint(last_row: Mapping[str, Any]) -> str:
        if output_file:
            return f"all results are in {output_file}"
        arguments = {"run_id": run_id, "after_index": last_row["index"]}
        return f"read on with map_results({_to_json(arguments)}) if you have that tool; else give fewer items at a time"

    return hint


def stored_row(item: RunItem) -> dict[str, Any]:
    """Return the row of an item that is stored in the database."""
    if item.outcome is None:
        return {"index": item.index, "state": item.state}
    record = json.loads(item.outcome)["record"]
    return _result_row(item.index, item.state == "done", record.get("output"), record.get("error"))


def _result_row(index: int, success: bool, output: Any, error: object) -> dict[str, Any]:
    return {"index": index, "output": output} if success else {"index": index, "error": str(error)}


def _truncate_row(row: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int) else truncate_to_tokens(_to_json(value), max_tokens)
        for name, value in row.items()
    }


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
