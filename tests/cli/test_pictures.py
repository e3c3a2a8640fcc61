"""`dag` and `timeline`: what became of the context, as text and as figures."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from tests.cli.conftest import Run, record


def read(path: Path, session_id: str, what: str) -> Any:
    async def get() -> Any:
        async with Engine(path) as engine:
            found = getattr(engine.store, what)(session_id)
            return found if isinstance(found, list) else await found

    return asyncio.run(get())


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with summaries of summaries."""
    path = tmp_path_factory.mktemp("deep") / "deep.db"
    asyncio.run(record(path, "deep", 24, compact_at=tuple(range(4, 25, 4))))
    return path


def test_the_dag_has_every_summary_once_below_what_was_made_of_it(run: Run, deep: Path) -> None:
    document = json.loads(run("dag", "deep", "--json", "--db", deep).stdout)
    stored = {summary.id: summary for summary in read(deep, "deep", "summaries")}
    standing = {cover.summary_id for cover in read(deep, "deep", "active_context").covers}
    seen: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        summary = stored[node["id"]]
        seen.append(summary.id)
        assert [child["id"] for child in node["children"]] == list(summary.child_ids)
        assert (node["level"], node["first_seq"], node["last_seq"]) == (
            summary.level,
            summary.first_seq,
            summary.last_seq,
        )
        assert node["in_context"] == (summary.id in standing)
        for child in node["children"]:
            walk(child)

    for root in document["summaries"]:
        walk(root)
    assert sorted(seen) == sorted(stored)
    assert any(summary.kind == "condensed" for summary in stored.values())


def test_the_dag_is_drawn_and_can_be_drawn_elsewhere(run: Run, deep: Path) -> None:
    names = [summary.id for summary in read(deep, "deep", "summaries")]
    shown = run("dag", "deep", "--db", deep).stdout
    assert all(name in shown for name in names)
    assert "in the context" in shown
    assert run("dag", "deep", "--format", "mermaid", "--db", deep).stdout.startswith("flowchart")
    assert run("dag", "deep", "--format", "dot", "--db", deep).stdout.startswith("digraph")


def test_a_session_without_summaries_says_so(run: Run, database: Path) -> None:
    assert "no summaries yet" in run("dag", "alpine", "--db", database).stderr
    assert json.loads(run("dag", "alpine", "--json", "--db", database).stdout)["summaries"] == []


def test_the_timeline_has_every_turn_and_what_compacted_it(run: Run, deep: Path) -> None:
    document = json.loads(run("timeline", "deep", "--context-limit", 4_000, "--json", "--db", deep).stdout)
    turns, compactions = read(deep, "deep", "turns"), read(deep, "deep", "compactions")
    assert [turn["context_tokens"] for turn in document["turns"]] == [turn.measured_tokens for turn in turns]
    assert [turn["turn"] for turn in document["turns"] if turn["compactions"]] == [
        c.turn_index + 1 for c in compactions
    ]
    marked = [turn for turn in document["turns"] if turn["compactions"]]
    assert [(t["tokens_before"], t["tokens_after"]) for t in marked] == [
        (c.tokens_before, c.tokens_after) for c in compactions
    ]
    assert document["budget"]["context_limit"] == 4_000


def test_the_timeline_is_a_table_for_programs_and_a_chart_for_people(run: Run, deep: Path) -> None:
    rows = list(csv.DictReader(run("timeline", "deep", "--csv", "--db", deep).stdout.splitlines()))
    assert [int(row["turn"]) for row in rows] == list(range(1, 25))
    assert [int(row["context_tokens"]) for row in rows] == [t.measured_tokens for t in read(deep, "deep", "turns")]
    lines = run("timeline", "deep", "--jsonl", "--db", deep).stdout.splitlines()
    assert len(list(map(json.loads, lines))) == 24
    shown = run("timeline", "deep", "--context-limit", 4_000, "--db", deep).stdout
    assert "▼" in shown
    assert "█" in shown
