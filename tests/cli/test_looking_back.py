"""`search`, `grep`, `expand`, `show` and `ls`: what was said is found again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from mnesis import Engine, MnesisSession
from mnesis.cli import expand, search
from mnesis.llm.no_model import NoModel
from mnesis.models import page_sizes
from mnesis.models.context import Prune
from mnesis.models.message import Message, Role, TextPart
from mnesis.models.results import CompactionResult
from mnesis.models.search import SearchMode
from mnesis.models.summary import Summary
from mnesis.recall import expand as recall_expand
from mnesis.store.base import Compaction
from tests.cli.conftest import Run, record, small_window, tool_call


async def said(path: Path, session_id: str, *texts: str, **fields: Any) -> None:
    async with (
        Engine(path, config=small_window(), llm=NoModel()) as engine,
        MnesisSession.open(model="demo/none", session_id=session_id, engine=engine, **fields) as session,
    ):
        messages = [
            Message(id=f"{session_id}-{number}", role="user", parts=(TextPart(text=text),), created_at=number * 1_000)
            for number, text in enumerate(texts, start=1)
        ]
        await session.append(messages)


def read(path: Path, session_id: str, what: str) -> Any:
    async def get() -> Any:
        async with Engine(path) as engine:
            return await getattr(engine.store, what)(session_id)

    return asyncio.run(get())


def document(run: Run, *arguments: object) -> Any:
    shown = run(*arguments)
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def test_search_finds_folded_originals_and_says_what_covers_them(run: Run, database: Path) -> None:
    found = document(run, "search", "Question 3 ", "alpha", "--mode", "substring", "--json", "--db", database)
    (hit,) = found["hits"]
    assert hit["excerpt"] == "Question 3 about pump 3?"
    assert hit["summary_id"] in {summary.id for summary in read(database, "alpha-session", "summaries")}
    assert "Question 3 about pump 3?" in run("search", "pump 3", "--db", database).stdout


def test_modes_and_roles_are_those_of_the_library() -> None:
    assert (get_args(SearchMode), get_args(Role)) == (search.MODES, search.ROLES)


def test_search_goes_on_where_a_page_ended(run: Run, database: Path) -> None:
    first = document(run, "search", "question", "alpha", "-n", 3, "--json", "--db", database)
    more = ("--cursor", first["next_cursor"], "--json", "--db", database)
    second = document(run, "search", "question", "alpha", "-n", 3, *more)
    seen = [hit["seq"] for page in (first, second) for hit in page["hits"]]
    assert len(set(seen)) == 6


def test_search_is_narrowed_by_mode_tool_and_time(run: Run, tmp_path: Path, database: Path) -> None:
    tools = document(run, "search", "valve", "--tool", "read_file", "-n", 50, "--json", "--db", database)["hits"]
    assert tools
    assert {hit["role"] for hit in tools} == {"assistant"}
    path = tmp_path / "times.db"
    asyncio.run(said(path, "s", "an early frog", "a late frog"))
    times = ("--after", "1970-01-01T00:00:01.500+00:00", "--before", "1970-01-01T00:00:03+00:00")
    (hit,) = document(run, "search", "frog", *times, "--json", "--db", path)["hits"]
    assert hit["excerpt"] == "a late frog"
    exact = document(run, "search", "ate fro", "--mode", "substring", "--json", "--db", path)["hits"]
    assert [hit["seq"] for hit in exact] == [2]


def test_a_time_that_is_none_is_wrong_usage(run: Run, database: Path) -> None:
    result = run("search", "x", "--after", "yesterdayish", "--db", database)
    assert result.exit_code == 2
    assert "2026-03-01" in result.stderr


def test_grep_takes_its_pattern_as_it_stands_unless_told_otherwise(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    asyncio.run(said(path, "s", "a.b (c) x{99999999999}", "axb"))

    def seqs(*arguments: object) -> list[int]:
        found = document(run, "grep", *arguments, "s", "--json", "--db", path)
        assert found["complete"]
        return [match["seq"] for match in found["matches"]]

    assert seqs("a.b") == seqs("-F", "a.b") == [1]
    assert seqs("-E", "a.b") == [1, 2]
    assert seqs("x{99999999999}") == [1]
    assert seqs("A.B") == []
    assert seqs("-i", "A.B") == [1]
    assert run("grep", "-F", "-E", "a", "--db", path).exit_code == 2


def test_grep_groups_its_matches_by_what_covers_them(run: Run, database: Path) -> None:
    found = document(run, "grep", "-E", "^Question [0-9]+ ", "alpha", "--json", "--db", database)
    context = read(database, "alpha-session", "active_context")
    covering = [
        next((c.summary_id for c in context.covers if c.first_seq <= match["seq"] <= c.last_seq), None)
        for match in found["matches"]
    ]
    assert [match["summary_id"] for match in found["matches"]] == covering
    assert len(found["matches"]) == 14
    assert {None} < set(covering)
    shown = run("grep", "-E", "^Question [0-9]+ ", "alpha", "--db", database).stdout
    assert f"covered by {covering[0]}" in shown
    assert "not covered by a summary" in shown


def test_grep_shows_the_lines_around_a_match(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lines.db"
    asyncio.run(said(path, "s", "one\ntwo\nthree\nfour\nfive"))
    (match,) = document(run, "grep", "three", "-C", 1, "--json", "--db", path)["matches"]
    assert (match["before"], match["line"], match["after"]) == (["two"], "three", ["four"])
    lines = [line.strip() for line in run("grep", "three", "-C", 1, "--db", path).stdout.splitlines()]
    assert lines[1:] == ["two", "#1 user: three", "four"]
    (edge,) = document(run, "grep", "one", "-C", 9, "--json", "--db", path)["matches"]
    assert (edge["before"], edge["after"]) == ([], ["two", "three", "four", "five"])


def test_search_finds_around_a_tool_whose_name_no_database_can_hold(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "odd.db"

    async def called() -> None:
        async with (
            Engine(path, llm=NoModel()) as engine,
            MnesisSession.open(model="demo/none", session_id="s", engine=engine) as session,
        ):
            await session.record("a frog", [tool_call("lone \ud800 name", "a toad", "call_1")])

    asyncio.run(called())
    assert document(run, "search", "frog", "--json", "--db", path)["hits"][0]["seq"] == 1
    assert document(run, "search", "toad", "--mode", "substring", "--json", "--db", path)["hits"][0]["seq"] == 2
    assert run("doctor", "--db", path).exit_code == 0


def test_grep_prints_a_line_once_however_often_the_pattern_stands_on_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    asyncio.run(said(path, "s", "a frog, a frog\na frog, a frog\nno toad"))
    result = run("grep", "frog", "s", "--db", path)
    assert result.stdout.count("#1 user: a frog, a frog\n") == 2
    assert len(document(run, "grep", "frog", "s", "--json", "--db", path)["matches"]) == 4


def test_grep_says_when_it_did_not_see_everything_and_goes_on_from_there(run: Run, database: Path) -> None:
    pattern = ("grep", "Question", "alpha", "-n", 9, "--db", database)
    first = document(run, *pattern, "--json")
    assert (first["complete"], len(first["matches"])) == (False, 9)
    assert "not everything was searched" in run(*pattern).stderr
    rest = document(run, *pattern, "--cursor", first["next_cursor"], "--json")
    assert [m["seq"] for m in first["matches"] + rest["matches"]] == list(range(1, 28, 2))
    assert run("grep", "Question", "--cursor", "1.0.x", "--db", database).exit_code == 2


def test_grep_through_every_session_counts_those_it_did_not_look_at(run: Run, database: Path) -> None:
    everything = document(run, "grep", "Question 1 about", "--json", "--db", database)
    assert {match["session_id"] for match in everything["matches"]} == {"alpha-session", "alpine"}
    cut = document(run, "grep", "Question", "-n", 1, "--json", "--db", database)
    assert "1 session not searched" in cut["stopped"]


def test_a_pattern_that_would_run_for_ever_is_ended_with_what_was_found(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "slow.db"
    asyncio.run(said(path, "s", "aab early", "a" * 5_000 + "!"))
    begun = time.monotonic()
    found = document(run, "grep", "-E", "(a|aa)+b", "--time-limit", 1, "--json", "--db", path)
    assert time.monotonic() - begun < 60
    assert not found["complete"]
    assert [match["seq"] for match in found["matches"]] == [1]


@pytest.mark.parametrize("pattern", ["(", "", "(?R)", "x" * 1_001])
def test_a_pattern_that_cannot_be_read_is_wrong_usage(run: Run, database: Path, pattern: str) -> None:
    result = run("grep", "-E", pattern, "alpha", "--db", database)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (2, True)


def test_expand_gives_every_original_behind_a_summary(run: Run, database: Path) -> None:
    summary = read(database, "alpha-session", "summaries")[0]
    messages = read(database, "alpha-session", "messages")
    found = document(run, "expand", summary.id, "-n", 0, "--json", "--db", database)
    assert [m["id"] for m in found["messages"]] == [
        m.id for m in messages if summary.first_seq <= m.seq <= summary.last_seq
    ]
    first = document(run, "expand", summary.id[:7], "-n", 2, "--session", "alpha", "--json", "--db", database)
    then = document(run, "expand", summary.id, "-n", 2, "--from", first["next_seq"], "--json", "--db", database)
    assert [m["seq"] for m in first["messages"] + then["messages"]] == [1, 2, 3, 4]
    assert "Question 1 about pump 1?" in run("expand", summary.id, "--db", database).stdout


def test_expand_reads_a_long_stretch_a_page_at_a_time(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is that of a page, however much stands behind the summary."""
    top = document(run, "dag", "alpha", "--json", "--db", database)["summaries"][0]
    whole = run("expand", top["id"], "-n", 0, "--jsonl", "--db", database).stdout
    pages: list[int] = []

    async def counted(*arguments: Any, **options: Any) -> Any:
        page = await recall_expand.expand_whole(*arguments, **options)
        pages.append(len(page.messages))
        return page

    monkeypatch.setattr(recall_expand, "expand_whole", recall_expand.expand, raising=False)
    monkeypatch.setattr(recall_expand, "expand", counted)
    monkeypatch.setattr(page_sizes, "LOG_PAGE_MESSAGES", 5)
    assert run("expand", top["id"], "-n", 0, "--jsonl", "--db", database).stdout == whole
    assert max(pages) == 5
    assert sum(pages) == top["message_count"]
    assert run("expand", top["id"], "-n", 7, "--jsonl", "--db", database).stdout.splitlines() == whole.splitlines()[:7]


def test_expand_takes_the_beginning_of_a_message_id_too(run: Run, database: Path) -> None:
    message = read(database, "alpine", "messages")[0]
    found = document(run, "expand", message.id[:-2], "--session", "alpine", "--json", "--db", database)
    assert [m["id"] for m in found["messages"]] == [message.id]
    shown = run("show", "alpine", "--from", message.id[:-2], "-n", 1, "--db", database).stdout
    assert shown.startswith("#1  user")


def test_expand_goes_down_as_many_levels_as_it_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deep.db"
    asyncio.run(record(path, "deep", 40, compact_at=tuple(range(4, 41, 3))))
    summaries = {summary.id: summary for summary in read(path, "deep", "summaries")}
    deepest = max(summaries.values(), key=lambda summary: summary.depth)
    assert deepest.depth >= 2, "the history is to make a summary of summaries of summaries"
    children = document(run, "expand", deepest.id, "--children", "--json", "--db", path)["summaries"]
    assert [child["id"] for child in children] == list(deepest.child_ids)
    both = document(run, "expand", deepest.id, "--depth", 2, "--json", "--db", path)["summaries"]
    expected = {c for child in deepest.child_ids for c in (child, *summaries[child].child_ids)}
    assert {child["id"] for child in both} == expected
    assert (
        "was made from messages"
        in run("expand", next(s.id for s in summaries.values() if s.kind == "leaf"), "--children", "--db", path).stderr
    )


def test_child_summaries_are_shown_harmlessly() -> None:
    hostile = "\x1b[2J \u202e [/red]"
    summary = Summary(
        id=hostile, kind="leaf", depth=0, level=3, text=f"{hostile}\n{hostile}", token_count=1,
        first_seq=1, last_seq=2, message_count=2, source_tokens=9,
    )  # fmt: skip
    for raw in (True, False):
        shown = expand.summary_lines(1, summary, raw).plain
        assert "[/red]" in shown
        assert not set(shown) & set("\x1b\u202e")


def test_an_id_that_several_sessions_have_asks_for_its_session(run: Run, database: Path, tmp_path: Path) -> None:
    export = tmp_path / "copy.jsonl"
    assert run("export", "alpha", "-o", export, "--db", database).exit_code == 0
    assert run("import", export, "--as", "copy", "--db", database).exit_code == 0
    summary = read(database, "alpha-session", "summaries")[0].id
    ambiguous = run("expand", summary, "--db", database)
    assert ambiguous.exit_code == 2
    assert "session copy" in ambiguous.stderr
    assert "session alpha-session" in ambiguous.stderr
    assert run("expand", summary, "--session", "copy", "--db", database).exit_code == 0
    assert run("expand", "sum_", "--session", "copy", "--db", database).exit_code == 2


def test_show_says_what_the_context_has_in_the_place_of_a_message(run: Run, database: Path) -> None:
    async def change() -> None:
        async with Engine(database) as engine:
            await engine.store.hide("alpha-session", 25, 25)
            context = await engine.store.active_context("alpha-session")
            result = CompactionResult(session_id="alpha-session", pruned_tool_outputs=1)
            prune = Compaction(context.covers, context.covers, (), (Prune(26, 1, 100),), result)
            await engine.store.compact("alpha-session", prune)

    asyncio.run(change())
    shown = run("show", "alpha", "-n", 0, "--db", database).stdout
    heads = {line.split()[0]: line for line in shown.splitlines() if line.startswith("#")}
    assert "(in sum_" in heads["#1"]
    assert "(out of the context)" in heads["#25"]
    assert "(" not in heads["#26"]
    assert shown.count("shows a marker in place of this output") == 1
    facts = {m["seq"]: m for m in document(run, "show", "alpha", "-n", 0, "--json", "--db", database)["messages"]}
    assert (facts[25]["in_context"], facts[25]["summary_id"]) == (False, None)
    assert (facts[26]["in_context"], facts[26]["pruned_parts"]) == (True, [1])
    assert facts[1]["summary_id"].startswith("sum_")


def test_damage_in_one_message_keeps_no_other_from_being_shown(run: Run, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE messages SET parts = replace(parts, 'pump 14', 'pump 15')")
    connection.close()
    shown = run("show", "alpha", "--from", 1, "-n", 2, "--db", database)
    assert (shown.exit_code, "Question 1 about pump 1?" in shown.stdout) == (0, True)
    assert "not marked" in shown.stderr
    damaged = run("show", "alpha", "--from", 27, "--db", database)
    assert (damaged.exit_code, isinstance(damaged.exception, SystemExit)) == (3, True)


def test_rows_stream_as_lines_of_json(run: Run, database: Path) -> None:
    summary = read(database, "alpha-session", "summaries")[0].id
    for arguments, rows in (
        (("ls",), 2), (("show", "alpha", "-n", 3), 3), (("search", "pump", "-n", 4), 4),
        (("grep", "Question", "alpha", "-n", 5), 5), (("expand", summary, "-n", 2), 2),
    ):  # fmt: skip
        lines = run(*arguments, "--jsonl", "--db", database).stdout.splitlines()
        assert [type(json.loads(line)) for line in lines] == [dict] * rows


def test_ls_keeps_to_an_agent_and_to_what_was_used_lately(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ls.db"
    asyncio.run(said(path, "coder", "hi", agent="coder"))
    asyncio.run(said(path, "writer", "hi", agent="writer"))
    assert [row["id"] for row in document(run, "ls", "--agent", "coder", "--json", "--db", path)] == ["coder"]
    assert len(document(run, "ls", "--since", "1h", "--json", "--db", path)) == 2
    assert document(run, "ls", "--since", "2999-01-01", "--json", "--db", path) == []


def test_ls_puts_sub_agents_below_those_they_work_for(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tree.db"
    asyncio.run(said(path, "lead", "hi"))
    asyncio.run(said(path, "helper", "hi", parent_id="lead"))
    asyncio.run(said(path, "helper-of-helper", "hi", parent_id="helper"))
    asyncio.run(said(path, "other", "hi"))
    rows = document(run, "ls", "--tree", "--json", "--db", path)
    assert [(row["id"], row["depth"]) for row in rows] == [
        ("other", 0),
        ("lead", 0),
        ("helper", 1),
        ("helper-of-helper", 2),
    ]
    assert "\n  └ hi  " in run("ls", "--tree", "--db", path).stdout
    assert "\n    └ hi  helper-o  " in run("ls", "--tree", "--db", path).stdout
    assert [row["id"] for row in document(run, "ls", "--tree", "-n", 1, "--json", "--db", path)] == ["other"]
    assert run("purge", "lead", "--apply", "--db", path).exit_code == 0
    rows = document(run, "ls", "--tree", "--json", "--db", path)
    assert [(row["id"], row["depth"]) for row in rows] == [("other", 0), ("helper", 0), ("helper-of-helper", 1)]
