"""A session goes out as lines of JSON and comes back the same."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis import Engine, MnesisSession, TokenUsage
from mnesis.cli import export
from mnesis.cli.export_format import message_dict, parse_message, read_line, write_line
from mnesis.cli.import_replay import Replay, parse_export
from mnesis.cli.import_session import KINDS
from mnesis.errors import CorruptStoreError, MnesisStoreError
from mnesis.llm.no_model import NoModel
from mnesis.models.context import Prune
from mnesis.models.message import DataPart, FilePart, Message, ReasoningPart, TextPart, ToolPart, ToolResultPart
from mnesis.models.results import CompactionAttempt, CompactionResult, TurnSnapshot
from mnesis.models.session import Interruption
from mnesis.models.summary import Summary
from mnesis.store.base import Compaction
from mnesis.store.memory import MemoryStore
from tests.cli.conftest import Run, small_window
from tests.support.samples import sampled

any_text = st.text(st.characters(exclude_categories=[]))
EVERY_KIND_OF_PART = (
    TextPart(text="lone \ud800, pair \ud83d\ude00 written apart, NUL \x00, \x7f, \u2028", provider={"k": [1.0, None]}),
    ReasoningPart(text="hm", provider={"signature": "abc"}),
    ToolPart(tool_name="t", tool_call_id="", input={"n": 10**30, "f": 0.1}, raw_input="{broken"),
    FilePart(name="a.txt", text="x" * 1_000),
    DataPart(kind="audio", data={"deep": [{"er": {}}]}, text=""),
)


async def prune_and_interrupt(path: Path) -> None:
    """What the fixture's compactions leave undone: an output shown as a marker, a call without an answer."""
    async with Engine(path) as engine:
        context = await engine.store.active_context("alpha-session")
        result = CompactionResult(session_id="alpha-session", pruned_tool_outputs=1)
        sweep = Compaction(context.covers, context.covers, (), (Prune(26, 1, 100),), result)
        await engine.store.compact("alpha-session", sweep)
        await engine.store.record_interruption("alpha-session", Interruption(28, "cancelled", "", "", "part", 5))


def lines_of(text: str, kind: str) -> list[dict[str, Any]]:
    return [value for value in map(read_line, text.splitlines()) if value["kind"] == kind]


async def log(path: Path, session_id: str) -> list[Message]:
    async with Engine(path) as engine:
        return await engine.store.messages(session_id)


async def session_of_everything(path: Path) -> None:
    async with (
        Engine(path, config=small_window(), llm=NoModel()) as engine,
        MnesisSession.open(model="demo/none", session_id="all", system_prompt="Sys \x1b", engine=engine) as session,
    ):
        for number in range(6):
            await session.record(
                f"question {number} " * 20, f"answer {number} " * 20, tokens=TokenUsage(input=9, output=3)
            )
        odd = Message(
            id="id with spaces", role="assistant", parts=EVERY_KIND_OF_PART, extra={"x": {"y": [0.5]}}, cost=0.25
        )
        result = ToolResultPart(tool_call_id="", tool_name="t", output="late", is_error=True)
        await session.append([odd, Message(id="r", role="tool", parts=(result,))], ends_turn=True)
        await engine.store.hide("all", 3, 4)
        await session.record("newest", "answer")
        await session.record("newest of all", "answer")
        await session.compact()


@settings(deadline=None)
@given(any_text, any_text)
def test_any_text_survives_a_line(text: str, key: str) -> None:
    line = write_line({"kind": "message", "text": text, "extra": {key: text}})
    assert line.isascii()
    assert "\n" not in line
    assert read_line(line) == {"kind": "message", "text": text, "extra": {key: text}}


@settings(max_examples=sampled(50), deadline=None)
@given(any_text)
def test_a_message_is_equal_after_its_line(text: str) -> None:
    message = Message(id="m", session_id="s", seq=3, role="assistant", parts=(TextPart(text=text), *EVERY_KIND_OF_PART))
    line = read_line(write_line({"kind": "message", **message_dict(message)}))
    line.pop("kind")
    assert parse_message(line, "s") == message


def test_the_export_format_keeps_its_first_names_for_renamed_fields() -> None:
    summary = Summary(
        id="sum_1", session_id="s", kind="leaf", depth=0, level=3, text="t", token_count=1, first_seq=1, last_seq=2,
        message_count=2, source_tokens=9, pointers=("messages 1-2",),
    )  # fmt: skip
    fields = summary.model_dump(exclude={"session_id"})
    assert fields["digs"] == ("messages 1-2",)
    assert Summary(**fields, session_id="s") == summary
    attempt = CompactionAttempt(level=1, rejection="too long")
    assert attempt.model_dump() == {"level": 1, "refused": "too long"}
    assert CompactionAttempt(**attempt.model_dump()) == attempt


def test_an_imported_session_is_the_same_log_and_the_same_context(run: Run, database: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "other.db"
    assert run("export", "alpha-session", "-o", file, "--db", database).exit_code == 0
    brought = run("import", file, "--db", other)
    assert brought.exit_code == 0, brought.output
    assert asyncio.run(log(other, "alpha-session")) == asyncio.run(log(database, "alpha-session"))
    shown = [
        run("context", "alpha", "--messages", "--context-limit", 4000, "--db", path).stdout
        for path in (database, other)
    ]
    assert shown[0] == shown[1]


async def test_an_export_reads_messages_and_turns_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PAGE_SIZE", 2)
    monkeypatch.setattr(export, "_PAGE_TURNS", 2)
    pages: list[int] = []
    read = MemoryStore.turns

    def read_page(store: MemoryStore, session_id: str, **bounds: Any) -> list[TurnSnapshot]:
        turns = read(store, session_id, **bounds)
        pages.append(len(turns))
        return turns

    monkeypatch.setattr(MemoryStore, "turns", read_page)
    async with Engine(":memory:") as engine, MnesisSession.open(model=None, session_id="s", engine=engine) as session:
        for number in range(5):
            await session.record(f"question {number}", "answer")
        lines = [line async for line in export.export_lines(engine.store, await engine.store.session("s"))]
    assert [len([line for line in lines if line["kind"] == kind]) for kind in ("message", "turn")] == [10, 5]
    assert pages == [2, 2, 1, 0]


def test_exporting_again_gives_the_same_messages_and_summaries(run: Run, database: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "other.db"
    asyncio.run(prune_and_interrupt(database))
    run("export", "alpha-session", "-o", file, "--db", database)
    run("import", file, "--db", other)
    first, second = file.read_text(), run("export", "alpha-session", "--db", other).stdout
    for kind in ("message", "summary", "cover", "prune", "interruption"):
        assert lines_of(first, kind), kind
        assert lines_of(second, kind) == lines_of(first, kind), kind
    for kind in ("turn", "compaction"):
        assert len(lines_of(second, kind)) == len(lines_of(first, kind))
    before, after = (lines_of(text, "session")[0]["value"] for text in (first, second))
    # The newest request says what a provider's cache held. It does not belong to another database.
    assert {k for k in before if before[k] != after[k]} <= {"updated_at", "last_request"}


def test_compactions_stand_at_the_turns_where_they_were(run: Run, database: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "other.db"
    run("export", "alpha-session", "-o", file, "--db", database)
    run("import", file, "--db", other)
    at = [
        [
            compaction["value"]["turn_index"]
            for compaction in lines_of(run("export", "alpha-session", "--db", path).stdout, "compaction")
        ]
        for path in (database, other)
    ]
    assert at[0] == at[1] == [5, 11]


def test_everything_a_message_can_hold_comes_back(run: Run, tmp_path: Path) -> None:
    path, other, file = tmp_path / "all.db", tmp_path / "other.db", tmp_path / "all.jsonl"
    asyncio.run(session_of_everything(path))
    assert run("export", "all", "-o", file, "--db", path).exit_code == 0
    brought = run("import", file, "--db", other)
    assert brought.exit_code == 0, brought.output
    assert asyncio.run(log(other, "all")) == asyncio.run(log(path, "all"))
    second = run("export", "all", "--db", other).stdout
    for kind in ("message", "summary", "cover"):
        assert lines_of(second, kind) == lines_of(file.read_text(), kind), kind
    assert run("doctor", "all", "--db", other).exit_code == 0
    usage = [lines_of(text, "session")[0]["value"]["usage"] for text in (file.read_text(), second)]
    assert usage[0] == usage[1]


def test_a_session_is_imported_again_only_under_another_id(run: Run, database: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    run("export", "alpha-session", "-o", file, "--db", database)
    refused = run("import", file, "--db", database)
    assert refused.exit_code == 2
    assert "--as" in refused.stderr
    assert run("import", file, "--as", "beta", "--db", database).exit_code == 0
    original, copy = (asyncio.run(log(database, name)) for name in ("alpha-session", "beta"))
    assert [m.model_copy(update={"session_id": "alpha-session"}) for m in copy] == original


def test_an_export_is_read_from_a_pipe(run: Run, database: Path, tmp_path: Path) -> None:
    text = run("export", "alpine", "--db", database).stdout
    assert run("import", "-", "--db", tmp_path / "other.db", input=text).exit_code == 0
    assert len(asyncio.run(log(tmp_path / "other.db", "alpine"))) == 2


def test_an_exported_file_is_private_and_whole_or_not_there(run: Run, database: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    before = os.umask(0o022)
    try:
        run("export", "alpine", "-o", file, "--db", database)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.glob("a.jsonl*")] == ["a.jsonl"]
    assert run("export", "nobody", "-o", tmp_path / "b.jsonl", "--db", database).exit_code == 2
    assert not list(tmp_path.glob("b.jsonl*"))


def test_an_export_that_fails_half_way_leaves_no_file(
    run: Run, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(message: Message) -> dict[str, Any]:
        if message.seq < 5:
            return message_dict(message)
        raise CorruptStoreError("message 5 is damaged", db_path=database)

    monkeypatch.setattr(export, "message_dict", damaged)
    assert run("export", "alpha-session", "-o", tmp_path / "a.jsonl", "--db", database).exit_code == 3
    assert not list(tmp_path.glob("a.jsonl*"))


def test_an_import_that_reads_back_something_else_is_an_error(run: Run, database: Path) -> None:
    class Forgetful(MemoryStore):
        async def messages(self, session_id: str, **options: Any) -> list[Message]:
            return [m.model_copy(update={"extra": {}}) for m in await super().messages(session_id, **options)]

    text = run("export", "alpine", "--db", database).stdout
    lines = {kind: lines_of(text, kind) for kind in KINDS}
    lines["message"][0]["value"]["extra"] = {"kept": True}

    async def replay(store: MemoryStore) -> None:
        await store.open()
        await Replay(store, parse_export(lines, None)).run()

    asyncio.run(replay(MemoryStore()))
    with pytest.raises(MnesisStoreError, match="differ from the export"):
        asyncio.run(replay(Forgetful()))


def test_an_export_replaces_a_file_only_when_told(run: Run, database: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("mine")
    refused = run("export", "alpine", "-o", file, "--db", database)
    assert (refused.exit_code, file.read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert run("export", "alpine", "-o", file, "--force", "--db", database).exit_code == 0
    assert file.read_text() != "mine"


def test_an_export_into_a_directory_that_is_not_there_is_wrong_usage(run: Run, database: Path, tmp_path: Path) -> None:
    result = run("export", "alpine", "-o", tmp_path / "no" / "a.jsonl", "--db", database)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
