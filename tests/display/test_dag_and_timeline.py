"""The tree of summaries and the sawtooth, as values and as a session gives them; and what a session shows of itself."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from mnesis import MnesisSession, SessionClosedError
from mnesis.models.dag import SummaryDag
from mnesis.sync import SyncSession
from mnesis.testing import ScriptedLLM
from tests.display.displayed import (
    Elements,
    compaction,
    dag_of,
    every_display,
    printed,
    summary,
    timeline_of,
    window,
)
from tests.session.support import MODEL, small, talk

QUIET = '"]; n0 --> n1 %% <b> `x` \\ \n{}'


def test_a_dag_knows_its_roots_edges_and_what_stands_in_the_context() -> None:
    dag = dag_of("text")
    assert [node.summary.id for node in dag] == ["sum_0", "sum_1", "sum_2", "sum_top"]
    assert [node.summary.id for node in dag.roots] == ["sum_top", "sum_2"]
    assert dag.edges() == [("sum_top", "sum_0"), ("sum_top", "sum_1")]
    assert [node.in_context for node in dag] == [False, False, True, True]
    assert [child.summary.id for child in dag[-1].children] == ["sum_0", "sum_1"]
    assert len(dag) == 4
    assert "sum_top" in repr(dag[-1])


def test_a_dag_prints_its_tree_with_what_stands_marked() -> None:
    lines = str(dag_of("first words\nmore")).splitlines()
    (top,) = [line for line in lines if "sum_top" in line]
    assert "condensed, level 1, #1–20, 400 → 40 tokens  in the context" in top
    (leaf,) = [line for line in lines if "sum_0" in line]
    assert "in the context" not in leaf
    assert leaf.index("sum_0") > top.index("sum_top")
    assert "first words more" in "\n".join(lines)


def test_a_dag_folds_in_a_page() -> None:
    page = Elements(dag_of("x")._repr_html_())
    assert page.tags.count("details") == 1
    assert "sum_top" in page.text


def test_mermaid_and_dot_sources_draw_every_summary_and_edge() -> None:
    dag = dag_of("words")
    mermaid, dot = dag.to_mermaid().splitlines(), dag.to_dot().splitlines()
    assert mermaid[0] == "flowchart TD"
    assert [line for line in mermaid if "-->" in line] == ["  n3 --> n0", "  n3 --> n1"]
    assert [line for line in mermaid if "style" in line] == [f"  style {n} stroke-width:3px" for n in ("n2", "n3")]
    assert [line for line in dot if "->" in line] == ["  n3 -> n0;", "  n3 -> n1;"]
    assert sum("style=bold" in line for line in dot) == 2


def test_content_cannot_break_out_of_a_mermaid_or_dot_label() -> None:
    hostile, plain = dag_of(QUIET), dag_of("words")
    for ours, theirs in ((hostile.to_mermaid(), plain.to_mermaid()), (hostile.to_dot(), plain.to_dot())):
        assert len(ours.splitlines()) == len(theirs.splitlines())
    for line in hostile.to_mermaid().splitlines():
        if "[" in line:
            assert line.count('"') == 2
            assert not set("`<>") & set(line.replace("<br/>", ""))
    assert r"\"]; n0 --> n1 %% <b> `x` \\ {}" in hostile.to_dot()


def test_deep_and_wide_trees_are_cut_and_say_so() -> None:
    chain, below = [], ()
    for depth in range(2_000):
        chain.append(summary(f"sum_{depth}", depth=depth, kind="condensed", child_ids=below))
        below = (f"sum_{depth}",)
    for dag in (SummaryDag.of("s", chain, ()), dag_of("x" * 500, leaves=2_000)):
        assert "…" in Elements(dag._repr_html_()).text
        assert len(dag._repr_html_().encode()) < 100_000
        assert len(str(dag).splitlines()) < 500
    assert "deeper" in str(SummaryDag.of("s", chain, ()))
    assert "deeper" in Elements(SummaryDag.of("s", chain, ())._repr_html_()).text


def test_a_tree_too_large_for_a_page_is_shown_as_far_as_it_goes() -> None:
    page = Elements(dag_of("\"'<&" * 100, leaves=2_000)._repr_html_())
    assert page.tags.count("div") > 50
    assert "more, omitted" in page.text


def test_a_tree_of_as_many_nodes_as_are_shown_says_nothing_of_more() -> None:
    assert "more, omitted" not in str(dag_of("x", leaves=199))
    assert "more, omitted" in str(dag_of("x", leaves=200))


def test_a_timeline_tells_each_turn_with_the_compactions_that_followed_it() -> None:
    done = [
        compaction(turn_index=1, tokens_before=3_000, tokens_after=900, level_used=1, trigger="soft"),
        compaction(turn_index=1, tokens_before=900, tokens_after=500, level_used=3, trigger="manual"),
    ]
    timeline = timeline_of([1_000, 3_000, 700], done)
    assert [(turn.turn, turn.context_tokens, turn.compactions) for turn in timeline] == [
        (1, 1_000, 0),
        (2, 3_000, 2),
        (3, 700, 0),
    ]
    (turn,) = timeline.compacted
    assert (turn.level, turn.trigger, turn.tokens_before, turn.tokens_after) == (3, "manual", 3_000, 500)
    assert repr(timeline) == "<Timeline of 's': turns=3 compacted=1>"


def test_a_timeline_as_csv_reads_back() -> None:
    timeline = timeline_of([1_000, 3_000], [compaction(turn_index=1)])
    rows = list(csv.DictReader(timeline.to_csv().splitlines()))
    assert [row["context_tokens"] for row in rows] == ["1000", "3000"]
    assert [row["tokens_before"] for row in rows] == ["", "4100"]
    assert list(rows[0]) == [
        "turn",
        "seq",
        "context_tokens",
        "compactions",
        "level",
        "trigger",
        "tokens_before",
        "tokens_after",
        "created_at",
    ]


def test_a_timeline_marks_compactions_above_their_column() -> None:
    lines = str(timeline_of([1_000, 4_000, 500, 1_000], [compaction(turn_index=1)])).splitlines()
    marks = next(line for line in lines if "▼" in line)
    bars = [line.partition("┤")[2] for line in lines if "┤" in line]
    column = marks.index("▼") - next(line.index("┤") for line in lines if "┤" in line) - 1
    assert column == 1
    heights = [sum(row[place : place + 1] not in ("", " ") for row in bars) for place in range(4)]
    assert heights[1] == max(heights)
    assert heights[2] == min(heights)
    assert any("soft 4,000" in line for line in lines)
    assert any("hard 6,000" in line for line in lines)


def test_a_timeline_page_has_a_dot_and_a_text_for_each_compaction() -> None:
    page = Elements(timeline_of([1_000, 4_000, 500], [compaction(turn_index=1)])._repr_html_())
    assert page.tags.count("circle") == 1
    assert page.tags.count("polyline") == 1
    assert "highest 4,000" in page.text


def test_what_is_empty_shows_itself_too() -> None:
    for value in (timeline_of([], []), SummaryDag.of("s", [], ()), *every_display("", 1)):
        assert Elements(value._repr_html_()).open == []
        assert str(printed(value))
    assert str(timeline_of([0], []))


def test_a_window_is_shared_out_completely() -> None:
    shown = window("x")
    assert sum(shown.shares.values()) == shown.tokens
    assert shown.shares == {"system prompt": 50, "summaries": 100, "messages": 470, "tool outputs": 30, "other": 0}
    text = printed(shown)
    for said in ("reserved", "2,000", "soft", "4,000", "hard", "6,000", "free", "5,350"):
        assert said in text
    assert "replaced by a marker" in text


async def test_a_session_gives_its_dag_and_its_timeline(tmp_path: Path) -> None:
    config = small(auto=False)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "s.db", config=config, llm=ScriptedLLM("fine")) as s:
        await talk(s, 12)
        result = await s.compact()
        dag, timeline = await s.dag(), await s.timeline()
        assert [node.summary for node in dag] == await s.summaries()
        assert [node.summary.id for node in dag.roots if node.in_context] == list(result.summary_ids)
        assert [turn.context_tokens for turn in timeline] == [turn.measured_tokens for turn in s.history()]
        (compacted,) = timeline.compacted
        assert (compacted.turn, compacted.trigger) == (12, "manual")
        assert (compacted.tokens_before, compacted.tokens_after) == (result.tokens_before, result.tokens_after)
        assert timeline.budget == s.budget
        shown = await s.window()
        assert shown.budget == s.budget
        assert shown.shares["summaries"] > 0
    for ask in (s.dag, s.timeline):
        with pytest.raises(SessionClosedError):
            await ask()


def test_a_synchronous_session_gives_them_too(tmp_path: Path) -> None:
    with SyncSession.open(model=MODEL, db_path=tmp_path / "s.db", config=small(), llm=ScriptedLLM("fine")) as session:
        session.record("a", "b")
        assert len(session.timeline()) == 1
        assert len(session.dag()) == 0
        assert f"SyncSession {session.id}" in session._repr_html_()


async def test_a_session_shows_itself_without_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    session = await MnesisSession.create(model=MODEL, db_path=tmp_path / "s.db", config=config, llm=ScriptedLLM("x"))
    await talk(session, 3)
    assert "open" in Elements(session._repr_html_()).text
    await session.close()
    shutil.rmtree(tmp_path)
    text = printed(session)
    assert "turns 3 · messages 6" in text
    assert "[closed]" in text
    assert "soft" in text
    assert "closed" in Elements(session._repr_html_()).text


async def test_what_a_provider_counts_beyond_us_is_part_of_the_gauge(tmp_path: Path) -> None:
    from mnesis import TokenUsage

    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "s.db", config=small(), llm=ScriptedLLM("x")) as s:
        await s.record("a", "b", tokens=TokenUsage(input=2_000, output=100))
        text = printed(s)
        assert "context tokens 2,100" in text
        assert "other" in text
