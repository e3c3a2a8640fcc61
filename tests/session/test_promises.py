"""Promises of a session to concurrent callers, killed processes and long logs, each by the sentence a user would put it in."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    Engine,
    MnesisSession,
    SessionNotFoundError,
    TextPart,
    TokenUsage,
    ToolPart,
    ToolResultPart,
)
from mnesis.llm.base import LLMReply
from mnesis.testing import ScriptedLLM
from mnesis.tokens.estimator import ModelTokenCounter
from tests.session.support import MODEL, calls, chatter, roles, small, talk, until
from tests.support.promised_sessions import count_open_files, opened
from tests.support.summaries import acceptable_summary
from tests.support.warm_python import run_python

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


async def test_turns_at_once_never_interleave_and_each_sees_the_ones_before(db: Path) -> None:
    model = ScriptedLLM("fine")
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        await asyncio.gather(
            *(session.record(f"r{n}", "ok") for n in range(5)), *(session.send(f"s{n}") for n in range(3))
        )
        assert await roles(session) == "ua" * 8
    for request in model.requests:
        said = [message["role"] for message in request.messages[1:]]
        assert said == ["user", "assistant"] * (len(said) // 2) + ["user"]


async def test_compactions_at_once_do_not_fail(db: Path) -> None:
    async with opened(db) as session:
        await talk(session, 8)
        results = await asyncio.gather(
            *(session.compact() for _ in range(4)), *(session.record("a", "b") for _ in range(3))
        )
        assert sum(getattr(result, "level_used", 0) > 0 for result in results) >= 1
        assert await session.engine.store.check() == []


async def test_a_killed_process_leaves_whole_turns_or_an_open_question(db: Path) -> None:
    code = """
    import asyncio, os, sys
    from mnesis import MnesisSession
    def die(messages):
        os._exit(9)
    async def main(path):
        session = await MnesisSession.create(model="openai/gpt-4o", db_path=path, session_id="x", llm=die)
        await session.record("a", "b")
        await session.send("unanswered")
    asyncio.run(main(sys.argv[1]))
    """
    ended = run_python(["-c", textwrap.dedent(code), str(db)], cwd=Path(__file__).parents[2], has_mnesis=True)
    assert ended.returncode == 9
    model = ScriptedLLM("fine")
    async with await MnesisSession.load("x", db_path=db, llm=model) as session:
        assert await roles(session) == "uau"
        await session.send("again")
        assert [message["content"] for message in model.requests[0].messages[1:]] == ["a", "b", "unanswered", "again"]


async def test_the_answer_is_kept_when_the_listener_fails(db: Path) -> None:
    def listen(part: Any) -> None:
        raise ValueError("mine")

    async with opened(db, "the real answer") as session:
        assert (await session.send("go", on_part=listen)).text == "the real answer"
        assert (await session.messages())[1].text_content() == "the real answer"


async def test_reported_usage_drives_compaction_through_send_as_well(db: Path) -> None:
    def answer(request: Any) -> Any:
        if request.purpose == "summary":
            return acceptable_summary(request)
        return LLMReply(text="ok", usage=TokenUsage(input=5_000, output=10))

    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(answer), config=small()) as session:
        await talk(session, 6)
        result = await session.send("hello")
        assert session.token_usage.input > 5_000
        assert result.compaction_triggered


async def test_a_loaded_session_goes_on_counting_where_it_was(db: Path) -> None:
    async with opened(db, auto=False) as session:
        await talk(session, 3)
        await session.record("big", "ok", tokens=TokenUsage(input=5_500, output=10))
        known = session.context_tokens, session.token_usage, session.history()
    async with await MnesisSession.load(session.id, db_path=db, config=small(auto=False)) as session:
        assert (session.context_tokens, session.token_usage, session.history()) == known
        assert session.context_tokens >= 5_510


async def test_order_does_not_depend_on_the_clock(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000_000, 0, -3_600_000 // 100))
    monkeypatch.setattr("mnesis.formats.parse.now_ms", lambda: next(clock))
    async with opened(db) as session:
        await talk(session, 6)
        texts = [message.text_content() for message in await session.messages()]
        assert texts == [text for number in range(6) for text in chatter(number)]
        assert (await session.compact()).elapsed_ms >= 0


async def test_no_list_of_ids_grows_with_the_log(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def limited(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 60)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    async with opened(db, low_water_fraction=0.05, soft_threshold_fraction=0.3) as session:
        await talk(session, 120)
        await until(lambda: not session.compaction_in_progress)
        await session.compact()
        assert len(await session.messages()) == 240
        assert len(await session.context_for_next_turn()) > 0
        assert len(session.history()) == 120
        for summary in await session.summaries():
            assert len((await session.expand(summary.id, limit=500)).messages) == summary.message_count
        assert await session.engine.store.check() == []


async def test_calls_of_one_id_in_one_message_stay_apart(db: Path) -> None:
    twins = [ToolPart(tool_name="f", tool_call_id="same", input={"n": n}, output=f"out {n}") for n in range(3)]
    async with opened(db) as session:
        await session.record("go", twins)
        shown = await session.context_for_next_turn()
        ids = [call["id"] for call in shown[1]["tool_calls"]]
        assert len(set(ids)) == 3
        assert [(m["tool_call_id"], m["content"]) for m in shown[2:]] == list(
            zip(ids, ["out 0", "out 1", "out 2"], strict=True)
        )
        assert [part.tool_call_id for part in (await session.messages())[1].tool_calls] == ["same"] * 3


async def test_each_pruned_output_is_counted_once_whatever_its_id(db: Path) -> None:
    async with opened(db, prune_protect_tokens=200, prune_minimum_tokens=50) as session:
        outputs = [ToolPart(tool_name="f", tool_call_id="same", output=f"{n} line\n" * 120) for n in range(3)]
        await session.record("go", outputs)
        await session.record([ToolResultPart(tool_call_id="other", output="result\n" * 300), "see"], "seen")
        await talk(session, 3)
        result = await session.compact()
        assert result.pruned_tool_outputs == 4
        assert result.pruned_tokens > 0


# Cost


async def test_a_turn_reads_no_more_of_a_long_log_than_of_a_short_one(db: Path) -> None:
    async with opened(db, soft_threshold_fraction=0.3, low_water_fraction=0.05) as session:
        store = session.engine.store
        read: list[int] = []
        context = store.active_context

        async def count_items(session_id: str, **options: Any) -> Any:
            found = await context(session_id, **options)
            read.append(len(found.items))
            return found

        store.active_context = count_items  # type: ignore[method-assign]  # to see what is read
        sizes = []
        for start in range(0, 240, 10):
            await talk(session, 10, first=start)
            await until(lambda: not session.compaction_in_progress)
            sizes.append(len((await session.window()).messages))
        assert max(read) < 60
        assert max(sizes) < 60


async def test_fifty_sessions_share_one_thread_and_one_set_of_descriptors(db: Path) -> None:
    async with Engine(db) as engine:
        first = await MnesisSession.create(model=MODEL, engine=engine)
        await first.record("a", "b")
        threads, descriptors = threading.active_count(), count_open_files()
        more = [await MnesisSession.create(model=MODEL, engine=engine) for _ in range(50)]
        apart = [await MnesisSession.create(model=MODEL, db_path=db) for _ in range(10)]
        for session in (*more, *apart):
            await session.record("a", "b")
        assert threading.active_count() <= threads + 1
        assert count_open_files() <= descriptors + 2
        for session in (*more, *apart, first):
            await session.close()


async def test_opening_a_database_again_changes_nothing_in_it(db: Path) -> None:
    async with opened(db) as session:
        await session.record("a", "b")
    before = db.read_bytes()  # noqa: ASYNC240 - a test may look at its own files
    for _ in range(3):
        async with await MnesisSession.load(session.id, db_path=db, config=small()) as session:
            await session.messages()
    assert db.read_bytes() == before  # noqa: ASYNC240 - a test may look at its own files


def test_counting_never_tries_the_network(db: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    code = """
    import socket, sys
    def refuse(*arguments, **named): raise SystemExit("the network was used")
    socket.getaddrinfo = socket.socket.connect = refuse
    from mnesis import TokenEstimator
    estimator = TokenEstimator()
    for model in ("openai/gpt-4o", "openai/gpt-4", "anthropic/claude-opus-4-6", "x/y"):
        assert estimator.estimate("some words to count", model=model) > 0
    assert "litellm" not in sys.modules
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr


def test_opening_and_recording_loads_no_model_client(db: Path) -> None:
    code = """
    import asyncio, sys
    from mnesis import MnesisSession
    async def main(path):
        async with MnesisSession.open(model="openai/gpt-4o", db_path=path) as session:
            await session.record("a", "b")
            await session.context_for_next_turn()
    asyncio.run(main(sys.argv[1]))
    loaded = {"litellm", "jinja2", "rich", "click", "langchain_core", "llama_index"} & set(sys.modules)
    assert not loaded, loaded
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(db)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


async def test_large_messages_are_counted_beside_the_event_loop(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    count = ModelTokenCounter.__call__

    def counted(self: ModelTokenCounter, text: str) -> int:
        if len(text) > 1_000:
            threads.add(threading.current_thread().name)
        return count(self, text)

    monkeypatch.setattr(ModelTokenCounter, "__call__", counted)
    async with opened(db) as session:
        await session.record("word " * 60_000, "ok")
    assert threads
    assert threading.current_thread().name not in threads


# What is missing elsewhere


async def test_deltas_arrive_while_the_model_still_speaks(db: Path) -> None:
    gate = asyncio.Event()

    class Speaking:
        async def complete(self, request: Any) -> LLMReply:
            raise AssertionError("a stream was asked for")

        async def stream(self, request: Any) -> Any:
            from mnesis.llm.base import Delta

            yield Delta(text="first ")
            await gate.wait()
            yield Delta(text="second")
            yield LLMReply(text="first second")

    async with MnesisSession.open(model=MODEL, db_path=db, llm=Speaking()) as session:
        events = session.stream("go")
        assert (await asyncio.wait_for(anext(events), 10)).text == "first "  # type: ignore[union-attr]  # a delta
        gate.set()
        assert [event.type async for event in events] == ["text_delta", "turn_complete"]


def test_nothing_is_printed_while_a_conversation_runs(db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with opened(db, "fine") as session:
            await session.send("hello")
            await talk(session, 40)
            await session.compact()

    asyncio.run(main())
    assert capfd.readouterr().out == ""


async def test_a_session_can_be_listed_paged_described_and_erased(db: Path) -> None:
    async with Engine(db) as engine:
        for number in range(5):
            session = await MnesisSession.create(model=MODEL, engine=engine, session_id=f"s{number}")
            await session.record("a", "b")
            await session.close()
        found, cursor = [], None
        while True:
            page = await engine.sessions(limit=2, cursor=cursor)
            found.extend(record.id for record in page.sessions)
            if (cursor := page.next_cursor) is None:
                break
        assert sorted(found) == [f"s{n}" for n in range(5)]
        await engine.purge("s3")
        with pytest.raises(SessionNotFoundError):
            await MnesisSession.load("s3", engine=engine)
        assert len((await engine.sessions()).sessions) == 4


async def test_the_cost_of_a_turn_is_the_sum_of_its_calls(db: Path) -> None:
    def work() -> str:
        return "ok"

    first = LLMReply(tool_calls=calls(("work", {})).tool_calls, cost=0.25, usage=TokenUsage(input=5, output=5))
    script = [first, LLMReply(text="done", cost=0.5, usage=TokenUsage(input=10, output=1))]
    async with opened(db, script) as session:
        result = await session.send("go", tools=[work])
        assert (result.cost, session.cost) == (0.75, 0.75)
        assert result.tokens.effective_total() == 21


async def test_messages_hold_what_json_can_hold_and_nothing_else_is_run(db: Path) -> None:
    hostile = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}}
    part = ToolPart(
        tool_name="f", tool_call_id="c", input={"__class__": "x", "lc": hostile}, output=json.dumps(hostile)
    )
    async with opened(db) as session:
        result = await session.record([TextPart(text="x", provider=hostile)], [part])
    async with await MnesisSession.load(session.id, db_path=db) as session:
        assert (await session.message(result.assistant_message_id)).parts == (part,)
        assert (await session.message(result.user_message_id)).parts == (TextPart(text="x", provider=hostile),)
