"""What is not a whole export is refused, and an import that fails leaves nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession, TokenUsage
from mnesis.cli.export_format import read_line
from mnesis.cli.import_replay import Export, Replay, parse_export
from mnesis.cli.import_session import KINDS
from mnesis.errors import MnesisStoreError, ReadOnlyStoreError
from mnesis.llm.base import LLMReply
from mnesis.llm.no_model import NoModel
from mnesis.models.session import SessionRecord
from mnesis.store.memory import MemoryStore
from mnesis.testing import ScriptedLLM
from tests.cli.conftest import Run
from tests.support.summaries import acceptable_summary


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("not json\n", "line 1"),
        ("[1]\n", "line 1"),
        ('{"kind": "message", "value": {}}\n', "not a session"),
        ('{"kind": "session", "format": "mnesis-session", "version": 99}\n', "99"),
        ('{"kind": "session", "format": "mnesis-session", "version": 1, "value": {}}\n', "damaged"),
        ('{"kind": "encoded", "data": "%"}\n', "line 1"),
        ("[" * 100_000 + "\n", "line 1"),
    ],
)
def test_what_is_no_export_is_refused_and_nothing_is_made(run: Run, tmp_path: Path, text: str, word: str) -> None:
    file, path = tmp_path / "bad.jsonl", tmp_path / "none.db"
    file.write_text(text)
    result = run("import", file, "--db", path)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert word in result.stderr
    assert not path.exists()


def test_a_file_of_bytes_is_no_export(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00" * 100)
    result = run("import", tmp_path / "bytes", "--db", tmp_path / "none.db")
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)


def test_a_child_keeps_its_parent_where_the_parent_is(run: Run, tmp_path: Path) -> None:
    async def family(path: Path) -> None:
        async with Engine(path, llm=NoModel()) as engine:
            for name, parent in (("mother", None), ("child", "mother")):
                session = await MnesisSession.create(
                    model="openai/gpt-4o", session_id=name, parent_id=parent, engine=engine
                )
                await session.close()

    asyncio.run(family(tmp_path / "a.db"))
    for name in ("child", "mother"):
        run("export", name, "-o", tmp_path / name, "--db", tmp_path / "a.db")
    both, alone = tmp_path / "both.db", tmp_path / "alone.db"
    for file, path in ((tmp_path / "mother", both), (tmp_path / "child", both), (tmp_path / "child", alone)):
        assert run("import", file, "--db", path).exit_code == 0
    parents = {row["id"]: row["parent_id"] for row in json.loads(run("ls", "--json", "--db", both).stdout)}
    assert parents == {"mother": None, "child": "mother"}
    assert json.loads(run("ls", "--json", "--db", alone).stdout)[0]["parent_id"] is None


def test_a_truncated_export_is_refused(run: Run, database: Path, tmp_path: Path) -> None:
    lines = run("export", "alpha-session", "--db", database).stdout.splitlines()
    file = tmp_path / "cut.jsonl"
    file.write_text("\n".join(lines[:9]))
    result = run("import", file, "--db", tmp_path / "none.db")
    assert result.exit_code == 2
    assert "28 messages in order were expected, but 8 follow" in result.stderr


def test_an_import_that_fails_half_way_leaves_nothing(run: Run, database: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run("export", "alpha-session", "--db", database).stdout.splitlines()]
    for line in lines:
        if line["kind"] == "summary":
            line["value"]["child_ids"], line["value"]["kind"] = ["sum_nobody"], "condensed"
    file, other = tmp_path / "bad.jsonl", tmp_path / "other.db"
    file.write_text("\n".join(map(json.dumps, lines)))
    result = run("import", file, "--db", other)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert json.loads(run("ls", "--json", "--db", other).stdout) == []


class _Refusing(MemoryStore):
    """Creates no session; purging one would be a fault."""

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        raise ReadOnlyStoreError("cannot be written", db_path="some.db")

    async def purge(self, session_id: str) -> None:
        raise AssertionError(f"purge of {session_id}")


@pytest.fixture
def exported(run: Run, database: Path) -> Export:
    values = list(map(read_line, run("export", "alpha-session", "--db", database).stdout.splitlines()))
    return parse_export({kind: [value for value in values if value["kind"] == kind] for kind in KINDS}, None)


def test_an_import_counts_what_summaries_cost_once(run: Run, tmp_path: Path) -> None:
    """The sums of an exported session contain its summaries already."""
    file, one, other = tmp_path / "a.jsonl", tmp_path / "one.db", tmp_path / "other.db"
    sums = asyncio.run(record_with_costly_summaries(one))
    run("export", "s", "-o", file, "--db", one)
    assert run("import", file, "--db", other).exit_code == 0
    assert asyncio.run(lifetime_sums(other)) == sums == asyncio.run(lifetime_sums(one))


async def record_with_costly_summaries(path: Path) -> tuple[TokenUsage, float]:
    usage = TokenUsage(input=100, output=5, total=105)
    model = ScriptedLLM(lambda request: LLMReply(text=acceptable_summary(request), usage=usage, cost=0.25))
    async with MnesisSession.open(model="openai/test", db_path=path, llm=model, session_id="s") as session:
        for first in (0, 6):
            for number in range(first, first + 6):
                await session.record(f"Ship order-{number} to Oslo. " * 30, f"Sent parcel-{number} by boat. " * 30)
            assert (await session.compact()).cost == 0.25
        assert session.cost == 0.5
        return session.token_usage, session.cost


async def lifetime_sums(path: Path) -> tuple[TokenUsage, float]:
    async with Engine(path) as engine:
        stored = await engine.store.session("s")
        return stored.usage, stored.cost


async def test_an_import_that_cannot_begin_says_why_and_erases_nothing(exported: Export) -> None:
    with pytest.raises(ReadOnlyStoreError):
        await Replay(_Refusing(), exported).run()


async def test_an_import_never_touches_a_session_that_somebody_made_meanwhile(exported: Export) -> None:
    store = MemoryStore()
    await store.open()
    await store.create_session(exported.session)
    with pytest.raises(MnesisStoreError, match="by another process meanwhile"):
        await Replay(store, exported).run()
    assert (await store.session("alpha-session")).id == "alpha-session"


async def test_an_import_that_is_broken_off_leaves_nothing(exported: Export) -> None:
    store = MemoryStore()
    await store.open()

    def broken_off(count: int) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Replay(store, exported, broken_off).run()
    assert not (await store.sessions()).sessions
