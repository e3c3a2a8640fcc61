"""`set()` and `reset()` on a log that only grows."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.samples import sampled

pytest.importorskip("llama_index.core")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.memory.mnesis import MnesisHistoryReplaced, MnesisMemory
from llama_index.memory.mnesis.events import DISPATCHER_NAME
from llama_index.memory.mnesis.revision import ContextItem, RevisionPlan, plan_revision

from mnesis import Engine
from tests.support.llamaindex_fakes import MakeMemory, assistant, system, turns, user


@pytest.fixture
def cases() -> list[str]:
    """How histories were replaced, in order."""
    found: list[str] = []

    class Keep(BaseEventHandler):
        def handle(self, event: object, **kwargs: object) -> None:
            if isinstance(event, MnesisHistoryReplaced):
                found.append(event.case)

    dispatcher = get_dispatcher(DISPATCHER_NAME)
    before = list(dispatcher.event_handlers)
    dispatcher.event_handlers = [*before, Keep()]
    yield found  # type: ignore[misc]  # a fixture
    dispatcher.event_handlers = before


def log_length(memory: MnesisMemory) -> int:
    return len(memory.history())


def test_the_same_history_changes_nothing(memory: MnesisMemory, cases: list[str]) -> None:
    memory.put_messages(turns(3))
    memory.set(turns(3))
    memory.set(memory.get_all())
    memory.set(memory.get())
    assert (memory.get_all(), log_length(memory), cases) == (turns(3), 6, [])


def test_a_longer_history_is_appended(memory: MnesisMemory, cases: list[str]) -> None:
    memory.put_messages(turns(3))
    memory.set(turns(5))
    assert (memory.get_all(), log_length(memory), cases) == (turns(5), 10, ["appended"])


def test_a_shorter_history_rolls_back_and_the_log_keeps_the_rest(memory: MnesisMemory, cases: list[str]) -> None:
    memory.put_messages(turns(3))
    memory.set(turns(3)[:3])
    assert (memory.get_all(), memory.get(), memory.history(), cases) == (
        turns(3)[:3],
        turns(3)[:3],
        turns(3),
        ["rolled_back"],
    )
    memory.put(assistant("another answer"))
    assert memory.get_all() == [*turns(3)[:3], assistant("another answer")]


def test_an_edited_history_is_a_new_epoch_of_the_same_messages(memory: MnesisMemory, cases: list[str]) -> None:
    said = turns(4)
    memory.put_messages(said)
    edited = [*said[:3], assistant("edited"), *said[4:]]
    memory.set(edited)
    assert (memory.get_all(), cases) == (edited, ["new_epoch"])
    assert memory.history() == [*said, *edited[3:]]


def test_a_client_that_sends_only_its_newest_messages_gets_exactly_those(
    memory: MnesisMemory, cases: list[str]
) -> None:
    said = turns(6)
    memory.put_messages(said)
    memory.set([*said[-4:], user("next")])
    assert memory.get_all() == [*said[-4:], user("next")]
    assert (log_length(memory), cases) == (13, ["new_epoch"])


def test_messages_that_are_said_again_and_again_are_told_apart(memory: MnesisMemory) -> None:
    said = [user("yes"), assistant("ok"), user("yes"), assistant("ok"), user("yes"), assistant("ok")]
    memory.put_messages(said)
    memory.set([assistant("ok"), user("yes"), assistant("ok"), user("go on")])
    assert memory.get_all() == [assistant("ok"), user("yes"), assistant("ok"), user("go on")]
    assert log_length(memory) == 7


def test_what_leaves_the_view_together_is_one_span() -> None:
    items = [ContextItem(seq, seq, (bytes([seq]),)) for seq in range(1, 7)] + [ContextItem(7, 20, (b"a", b"b"))]
    plan = plan_revision(items, (), [bytes([3]), b"new"], 20)
    assert plan == RevisionPlan(((1, 2), (4, 20)), 1, "new_epoch")


def test_an_empty_history_is_a_reset_and_the_log_keeps_everything(memory: MnesisMemory, cases: list[str]) -> None:
    memory.put_messages(turns(2))
    memory.set([])
    memory.set([])
    assert (memory.get(), memory.get_all(), memory.history(), cases) == ([], [], turns(2), ["reset"])
    memory.put(user("again"))
    memory.reset()
    assert (memory.get_all(), cases) == ([], ["reset", "reset"])
    assert memory.history(include_superseded=False) == []


def test_a_history_that_was_reset_can_come_back(memory: MnesisMemory) -> None:
    memory.put_messages(turns(2))
    memory.reset()
    memory.set(turns(2))
    assert memory.get_all() == turns(2)


def test_an_empty_chat_history_never_wipes_a_session(memory: MnesisMemory, make_memory: MakeMemory) -> None:
    memory.put_messages(turns(2))
    again = make_memory(session_id="s", chat_history=[])
    assert again.get_all() == turns(2)


def test_a_chat_history_given_at_the_start_is_the_history(make_memory: MakeMemory) -> None:
    memory = make_memory(session_id="t", chat_history=turns(2))
    assert memory.get_all() == turns(2)
    assert make_memory(session_id="t", chat_history=turns(3)).get_all() == turns(3)
    assert memory.get_all() == turns(3)


def compacted(make_memory: MakeMemory, **fields: object) -> MnesisMemory:
    memory = make_memory(session_id="c", token_limit=3_000, **fields)
    memory.put_messages([system("rule"), *turns(30)])
    memory.compact()
    assert "[Summary" in str(memory.get()[1].content) + str(memory.get()[0].content)
    return memory


@pytest.mark.parametrize("insert", ["system", "user"])
def test_a_view_fed_back_with_more_is_appended(make_memory: MakeMemory, insert: str, cases: list[str]) -> None:
    memory = compacted(make_memory, summary_insert=insert)
    view = memory.get()
    memory.set([*view, user("next"), assistant("sure")])
    assert memory.get() == [*view, user("next"), assistant("sure")]
    assert memory.get_all() == [system("rule"), *turns(30), user("next"), assistant("sure")]
    memory.set(memory.get())
    assert cases == ["appended"]


def test_a_view_fed_back_shorter_rolls_back_and_keeps_the_summary(make_memory: MakeMemory, cases: list[str]) -> None:
    memory = compacted(make_memory)
    view = memory.get()
    memory.set(view[:-1])
    assert (memory.get(), cases) == (view[:-1], ["rolled_back"])
    assert memory.get_all() == [system("rule"), *turns(30)][:-1]


def test_a_view_fed_back_with_another_end_keeps_the_summary(make_memory: MakeMemory, cases: list[str]) -> None:
    memory = compacted(make_memory)
    view = memory.get()
    memory.set([*view[:-2], user("instead")])
    assert (memory.get(), cases) == ([*view[:-2], user("instead")], ["new_epoch"])


def test_a_view_that_is_fed_back_late_is_still_known(make_memory: MakeMemory, cases: list[str]) -> None:
    memory = compacted(make_memory)
    view = memory.get(initial_token_count=2_700)
    memory.put(user("next"))
    memory.set([*view, user("next"), assistant("sure")])
    assert cases == ["appended"]
    assert memory.get_all() == [system("rule"), *turns(30), user("next"), assistant("sure")]


def test_a_view_from_before_a_compaction_is_still_known(make_memory: MakeMemory, cases: list[str]) -> None:
    memory = compacted(make_memory)
    memory.put_messages(turns(8))
    view = memory.get()
    assert memory.compact().level_used
    memory.set([*view, user("next")])
    assert cases == ["appended"]
    assert memory.get_all() == [system("rule"), *turns(30), *turns(8), user("next")]


def test_a_view_of_what_was_replaced_since_is_not_referred_to(memory: MnesisMemory) -> None:
    memory.set([system("a"), user("a")])
    memory.get()
    memory.set([user("b")])
    memory.set([system("a")])
    assert memory.get_all() == [system("a")]


def test_the_whole_transcript_of_a_compacted_session_appends_what_is_new(
    make_memory: MakeMemory, cases: list[str]
) -> None:
    memory = compacted(make_memory)
    whole = [system("rule"), *turns(31)]
    view = memory.get()
    memory.set(whole)
    assert memory.get() == [*view, *turns(31)[-2:]]
    assert cases == ["appended"]


def test_a_rollback_into_what_is_folded_brings_back_the_messages(make_memory: MakeMemory) -> None:
    memory = compacted(make_memory)
    length = log_length(memory)
    memory.set([system("rule"), *turns(3)])
    assert memory.get_all() == memory.get() == [system("rule"), *turns(3)]
    assert log_length(memory) == length, "originals come back; copies are not stored"


def test_a_rollback_to_the_end_of_a_fold_shows_the_newest_message(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=2_000)
    memory.put_messages(turns(8))
    memory.compact()
    kept = len([m for m in memory.get() if m in turns(8)])
    rest = turns(8)[:-kept]
    memory.set(rest)
    assert (memory.get_all(), memory.get(), log_length(memory)) == (rest, rest, 16)


words = st.sampled_from(["a", "b", "c"])
histories = st.lists(st.one_of(words.map(user), words.map(assistant), words.map(system)), max_size=8)


@settings(max_examples=sampled(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["set", "put", "compact", "get"]), histories), max_size=6))
def test_after_any_changes_the_history_is_what_was_set(steps: list[tuple[str, list[ChatMessage]]]) -> None:
    memory = MnesisMemory.from_defaults(engine=Engine(":memory:"), token_limit=2_000)
    expected: list[ChatMessage] = []
    kept = 0
    for verb, messages in steps:
        if verb == "set":
            memory.set(messages)
            expected = messages
        elif verb == "put":
            memory.put_messages(messages)
            expected = [*expected, *messages]
        elif verb == "compact":
            memory.compact()
        else:
            memory.get()
        assert memory.get_all() == expected
        assert [m.content for m in memory.get()][-1:] == [m.content for m in expected][-1:]
        assert len(memory.history()) >= kept
        kept = len(memory.history())
    memory.close()


async def test_a_set_and_puts_at_the_same_time_lose_nothing(memory: MnesisMemory) -> None:
    await memory.aput_messages(turns(2))
    await asyncio.gather(
        memory.aset(turns(4)), *(memory.aput(user(f"put {n}")) for n in range(10)), memory.aset(turns(5))
    )
    everything = await memory.ahistory()
    assert all(user(f"put {n}") in everything for n in range(10))
    assert all(message in everything for message in turns(5))
