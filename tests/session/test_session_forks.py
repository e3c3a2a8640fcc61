"""A fork continues from any message: edits, new answers and other turns, while the original stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession
from mnesis.config import RetentionConfig
from mnesis.errors import (
    ConfigurationError,
    DuplicateIDError,
    InvalidMessageError,
    LLMError,
    MessageNotFoundError,
    NotFoundError,
    NothingToRetryError,
    SessionForkedError,
    SessionNotFoundError,
)
from mnesis.events.bus import MnesisEvent
from mnesis.sync import SyncSession

ECHO_PREFIX = "You said: "


def echo(messages: list[dict[str, object]]) -> str:
    return f"{ECHO_PREFIX}{messages[-1]['content']}"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "s.db", llm=echo)


async def texts(session: MnesisSession) -> list[str]:
    return [message.text_content() async for message in session.iter_messages()]


async def start(engine: Engine, *questions: str) -> MnesisSession:
    session = await MnesisSession.create(model="m", engine=engine, session_id="s", system_prompt="Be brief.")
    for question in questions:
        await session.send(question)
    return session


async def test_a_fork_and_its_origin_continue_independently(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one", "two")
        log = await session.messages()
        created: list[object] = []
        engine.events.subscribe(MnesisEvent.SESSION_CREATED, lambda _, payload: created.append(payload.forked_from))
        async with session.fork(at=log[1].id) as fork:
            await fork.send("three")
            assert await texts(fork) == ["one", f"{ECHO_PREFIX}one", "three", f"{ECHO_PREFIX}three"]
            assert fork.forked_from is not None
            assert (fork.forked_from.session_id, fork.forked_from.message_id) == ("s", log[1].id)
            assert (fork.system_prompt, fork.model) == ("Be brief.", "m")
            assert [turn.seq for turn in fork.history()] == [4]
            assert (await fork.verify()).is_intact
        await session.send("four")
        assert len(await session.messages()) == 6
        assert created == ["s"]
        again = await MnesisSession.load(fork.id, engine=engine)
        assert again.forked_from == fork.forked_from
        assert len(await again.messages()) == 4
        for each in (again, session):
            await each.close()


async def test_the_context_and_the_request_of_a_fork_are_those_of_its_log(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one", "two")
        log = await session.messages()
        fork = await session.fork(before=log[2].id)
        request = await fork.context_for_next_turn()
        assert [message["content"] for message in request] == ["one", f"{ECHO_PREFIX}one"]
        record = await engine.store.session(fork.id)
        assert (
            fork.context_tokens
            == record.stored_tokens
            == record.system_tokens + sum(message.token_count for message in log[:2])
        )
        assert (fork.token_usage.effective_total(), fork.cost) == (0, 0.0)
        for each in (fork, session):
            await each.close()


async def test_editing_a_message_is_one_call(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one", "two", "three")
        second = (await session.messages())[2]
        fork, result = await session.edit(second.id, "zwei")
        assert result.text == f"{ECHO_PREFIX}zwei"
        assert (await texts(fork))[2:] == ["zwei", f"{ECHO_PREFIX}zwei"]
        first = (await session.messages())[0]
        top, result = await session.edit(first.id, "eins", session_id="top")
        assert (await texts(top), top.id) == (["eins", f"{ECHO_PREFIX}eins"], "top")
        assert len(await session.messages()) == 6
        with pytest.raises(InvalidMessageError, match="regenerate"):
            await session.edit((await session.messages())[1].id, "x")
        with pytest.raises(InvalidMessageError, match="nothing to send"):
            await session.edit(first.id, "")
        with pytest.raises(MessageNotFoundError):
            await session.edit("no", "x")
        assert len((await engine.sessions()).sessions) == 3
        for each in (fork, top, session):
            await each.close()


async def test_an_answer_is_written_again_from_any_message_of_its_turn(tmp_path: Path) -> None:
    answers = iter("abcdef")
    async with Engine(tmp_path / "s.db", llm=lambda _: next(answers)) as engine:
        session = await start(engine, "one", "two")
        log = await session.messages()
        for message_id, expected in (
            (None, ["one", "a", "two", "c"]),
            (log[0].id, ["one", "d"]),
            (log[1].id, ["one", "e"]),
        ):
            fork, result = await session.regenerate(message_id)
            assert await texts(fork) == expected
            assert result.text == expected[-1]
            assert result.user_message_id == log[2 if message_id is None else 0].id
            await fork.close()
        assert await texts(session) == ["one", "a", "two", "b"]
        await session.close()
        empty = await MnesisSession.create(model="m", engine=engine)
        with pytest.raises(NothingToRetryError):
            await empty.regenerate()
        await empty.close()


async def test_a_failed_answer_leaves_a_fork_that_can_be_retried(tmp_path: Path) -> None:
    def answer(messages: list[dict[str, object]]) -> str:
        if messages[-1]["content"] == "fail":
            raise RuntimeError("no answer")
        return "fine"

    async with Engine(tmp_path / "s.db", llm=answer) as engine:
        session = await start(engine, "one")
        with pytest.raises(LLMError):
            await session.edit((await session.messages())[0].id, "fail", session_id="f")
        fork = await MnesisSession.load("f", engine=engine, llm=lambda _: "recovered")
        assert (await fork.retry()).text == "recovered"
        for each in (fork, session):
            await each.close()


async def test_a_fork_inside_a_tool_loop_runs_or_closes_the_open_calls(tmp_path: Path) -> None:
    from mnesis.llm.base import LLMReply
    from mnesis.models.message import ToolPart
    from mnesis.testing import ScriptedLLM

    ran: list[str] = []

    def look(city: str) -> str:
        """Look up a city."""
        ran.append(city)
        return f"sun in {city}"

    call = ToolPart(tool_name="look", tool_call_id="c1", input={"city": "Oslo"})
    llm = ScriptedLLM([LLMReply(tool_calls=(call,)), "done", "again", "closed"])
    async with Engine(tmp_path / "s.db", llm=llm) as engine:
        session = await start(engine)
        await session.send("weather?", tools=[look])
        log = await session.messages()
        assert [message.role for message in log] == ["user", "assistant", "tool", "assistant"]
        at_call = await session.fork(at=log[1].id, session_id="retried")
        assert (await at_call.retry(tools=[look])).text == "again"
        assert ran == ["Oslo", "Oslo"]
        assert [message.role for message in await at_call.messages()] == ["user", "assistant", "tool", "assistant"]
        closed = await session.fork(at=log[1].id, session_id="closed")
        assert (await closed.send("never mind")).text == "closed"
        request = llm.requests[-1].messages
        roles = [message["role"] for message in request if message["role"] != "system"]
        assert roles == ["user", "assistant", "tool", "user"]
        for each in (at_call, closed, session):
            await each.close()


async def test_the_budget_of_a_fork_fits_after_its_summaries_stop_applying(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db", llm=echo) as engine:
        session = await MnesisSession.create(model=None, engine=engine, session_id="s", budget=2_000)
        for number in range(60):
            await session.record(f"question {number} " + "words " * 40, f"answer {number} " + "words " * 40)
        await session.compact(keep_tokens=200)
        log = await session.messages()
        for at in (0, 7, 30, 59, 90, 119):
            async with session.fork(at=log[at].id) as fork:
                window = await fork.window()
                assert window.tokens <= window.budget_tokens
                assert log[0].id in [hit.message_id for hit in await fork.search("question 0", 5)]
                shown = {message.seq for message in window.messages if not message.is_summary}
                assert at + 1 in shown
                assert max(shown) == at + 1
                for summary in await fork.summaries():
                    expansion = await fork.expand(summary.id, limit=200)
                    assert {message.id for message in expansion.messages} <= {message.id for message in log[: at + 1]}
        assert (await engine.verify()).is_intact
        await session.close()


async def test_what_cannot_be_forked_is_refused(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one")
        log = await session.messages()
        with pytest.raises(ConfigurationError, match="either at="):
            await session.fork(at=log[0].id, before=log[1].id)
        with pytest.raises(ConfigurationError, match="non-empty string"):
            await session.fork(session_id="")
        with pytest.raises(MessageNotFoundError):
            await session.fork(at="no")
        with pytest.raises(DuplicateIDError):
            await session.fork(session_id="s")
        first = await session.fork(at=log[0].id, session_id="f")
        again = await session.fork(at=log[0].id, session_id="f")
        assert first.id == again.id
        with pytest.raises(SessionNotFoundError):
            await engine.fork("no")
        for each in (first, again, session):
            await each.close()


async def test_purging_a_session_with_its_forks_is_explicit(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one", "two")
        log = await session.messages()
        await engine.fork("s", at=log[1].id, new_id="f")
        await engine.fork("f", new_id="g")
        await engine.fork("s", new_id="h")
        top = await engine.fork("s", before=log[0].id, new_id="top")
        assert (top.forked_from, top.last_seq, top.system_prompt) == (None, 0, "Be brief.")
        with pytest.raises(SessionForkedError, match="with_forks") as raised:
            await engine.purge("s")
        assert raised.value.fork_ids == ("f", "g", "h")
        await engine.purge("h")
        assert len(await session.messages()) == 4
        await engine.purge("s", with_forks=True)
        assert [each.id for each in (await engine.sessions()).sessions] == ["top"]


async def test_retention_keeps_what_a_kept_fork_continues(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "one")
        await session.close()
        await engine.fork("s", new_id="f")
        async with MnesisSession.load("f", engine=engine) as fork:
            await fork.send("two")
        await engine.fork("f", new_id="g")
        plan = await engine.plan_purge(RetentionConfig(match="s"))
        assert (plan.sessions, plan.kept) == ((), {"s": "f"})
        plan = await engine.plan_purge(RetentionConfig(match="[sfg]"))
        assert [each.id for each in plan.sessions] == ["g", "f", "s"]
        await engine.fork("f", new_id="later")
        purged = await engine.apply_purge(plan)
        assert [each.id for each in purged.sessions] == ["g"]
        assert (await engine.verify()).is_intact


def test_the_blocking_twin_forks_edits_and_regenerates(tmp_path: Path) -> None:
    with SyncSession.open(model="m", db_path=tmp_path / "s.db", llm=echo) as session:
        session.send("one")
        first = session.messages()[0].id
        with session.fork(before=first) as fork:
            assert fork.messages() == []
        edited, result = session.edit(first, "eins")
        with edited:
            assert (edited.messages()[0].text_content(), result.text) == ("eins", f"{ECHO_PREFIX}eins")
        repeated, result = session.regenerate()
        with repeated:
            assert (repeated.forked_from is not None, result.text) == (True, f"{ECHO_PREFIX}one")


async def test_grep_describe_and_expand_follow_the_log_of_a_fork(engine: Engine) -> None:
    async with engine:
        session = await start(engine, "the amber lamp", "the birch table", "the copper bell")
        log = await session.messages()
        async with session.fork(at=log[3].id) as fork, fork.fork(at=log[1].id) as inner:
            await fork.send("the dusty mirror")
            await inner.send("the early train")
            logs = {"s": "amber birch copper", fork.id: "amber birch dusty", inner.id: "amber early"}
            for each in (session, fork, inner):
                for word in ("amber", "birch", "copper", "dusty", "early"):
                    assert bool((await each.grep(word)).matches) == (word in logs[each.id])
                assert "amber" in str(await each.expand(log[0].id))
                assert (await each.describe(log[0].id)).id == log[0].id
            for each, message in ((fork, log[5]), (inner, log[3])):
                for look_up in (each.expand, each.describe):
                    with pytest.raises(NotFoundError):
                        await look_up(message.id)
        await session.close()
