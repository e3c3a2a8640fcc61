"""What `get()` returns, for any history and any limit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.samples import sampled

pytest.importorskip("llama_index.core")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.memory.mnesis import MnesisMemory
from llama_index.memory.mnesis.messages import to_record
from llama_index.memory.mnesis.view import View

from mnesis import Engine, concurrency
from mnesis.context.markers import OPENING_HEADER
from mnesis.models.message import ToolPart
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS
from tests.support.llamaindex_fakes import MakeMemory, assistant, calls, old_calls, result, system, text_of, turns, user

SPEAKS_FOR_ITSELF = {MessageRole.SYSTEM, MessageRole.DEVELOPER}
ELLIPSIS_TOKENS = 1
CALL_IDS = st.sampled_from(["c1", "c2", "c3", ""])
WORDS = st.integers(min_value=0, max_value=60).map(lambda count: "word " * count)
any_said = st.one_of(
    WORDS.map(user),
    WORDS.map(assistant),
    WORDS.map(lambda text: system("rule " + text[:20])),
    st.builds(
        lambda role, text: ChatMessage(role=role, content=text),
        st.sampled_from(["function", "chatbot", "model"]),
        WORDS,
    ),
    st.lists(CALL_IDS, min_size=1, max_size=3).map(lambda ids: calls(*ids, q="x")),
    st.lists(CALL_IDS, min_size=1, max_size=2).map(lambda ids: old_calls(*ids)),
    st.builds(result, CALL_IDS, WORDS),
    st.builds(lambda ids, text: (calls(*ids), [result(each, text) for each in ids]), st.just(("a", "b")), WORDS),
)


def flat(said: Sequence[object]) -> list[ChatMessage]:
    messages: list[ChatMessage] = []
    for each in said:
        if isinstance(each, tuple):
            messages += [each[0], *each[1]]
        elif isinstance(each, ChatMessage):
            messages.append(each)
    return messages


histories = st.lists(any_said, min_size=1, max_size=25).map(flat)


def spoken(view: Sequence[ChatMessage]) -> list[ChatMessage]:
    return [message for message in view if message.role not in SPEAKS_FOR_ITSELF]


def call_ids(message: ChatMessage) -> list[str]:
    return [part.tool_call_id for part in to_record(message).parts if isinstance(part, ToolPart)]


def check_pairs(view: Sequence[ChatMessage]) -> None:
    waiting: list[str] = []
    for message in spoken(view):
        if message.role == MessageRole.TOOL:
            waiting.remove(str(message.additional_kwargs["tool_call_id"]))
            continue
        assert waiting == [], "a call without its result"
        waiting = call_ids(message)
    assert waiting == []


async def read_view(memory: MnesisMemory, limit: int, reserved: int) -> View:
    history = await memory._open_history()
    return await history.read_view(token_limit=limit, reserved_tokens=reserved, placement="system")


@settings(max_examples=sampled(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.integers(min_value=20, max_value=600), st.sampled_from(["system", "user"]), st.booleans())
@example(history=[user("word "), old_calls("c1")], limit=43, insert="system", compacted=False)
def test_a_view_keeps_its_promises(history: list[ChatMessage], limit: int, insert: str, compacted: bool) -> None:
    engine = Engine(":memory:")
    memory = MnesisMemory.from_defaults(engine=engine, token_limit=limit, summary_insert=insert)  # type: ignore[arg-type]  # drawn from the two
    memory.put_messages(history)
    if compacted:
        memory.compact()
    concurrency.run(engine.wait_for_tasks())  # a fold in the background may change what the next view is
    reserved = limit // 4
    view = memory.get(initial_token_count=reserved)

    said = spoken(view)
    if any(message.role == MessageRole.USER for message in history) and said[0].role != MessageRole.USER:
        # The newest turn fits only without its user message: not even an ellipsis fits in its place.
        shown = concurrency.run(read_view(memory, limit, reserved))
        content_tokens = shown.tokens - MESSAGE_OVERHEAD_TOKENS * len(shown.messages)
        assert content_tokens <= limit - reserved < content_tokens + ELLIPSIS_TOKENS
    check_pairs(view)
    newest = history[-1]
    if newest.role in (MessageRole.TOOL, MessageRole.FUNCTION):
        assert said[-1].role in (MessageRole.TOOL, MessageRole.USER, newest.role)
    elif call_ids(newest):
        assert len(call_ids(said[-1 - len(call_ids(newest))])) == len(call_ids(newest))
    elif not (insert == "user" and newest.role == MessageRole.USER):
        assert newest in view
    rules = [message for message in history if message.role == MessageRole.SYSTEM]
    assert [message for message in view if message in rules] == rules

    again = memory.get(initial_token_count=reserved)
    assert again == view
    assert not {id(message) for message in again} & {id(message) for message in view}
    assert memory.get_all() == history
    memory.close()


@settings(max_examples=sampled(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.integers(min_value=20, max_value=600), st.booleans())
def test_a_view_fits_unless_what_must_stay_does_not(history: list[ChatMessage], limit: int, compacted: bool) -> None:
    memory = MnesisMemory.from_defaults(engine=Engine(":memory:"), token_limit=limit)
    memory.put_messages(history)
    if compacted:
        memory.compact()
    reserved = limit // 4

    async def made() -> tuple[int, int]:
        history_of = await memory._open_history()
        view = await history_of.read_view(token_limit=limit, reserved_tokens=reserved, placement="system")
        records = await history_of.records()
        rules = sum(record.token_count for record in records if record.role == "system")
        return view.tokens, rules + records[-1].token_count

    tokens, must_stay = concurrency.run(made())
    # The newest user message, shortened, and calls that belong to the newest result are what cannot be left out.
    assert tokens + reserved <= limit or tokens <= must_stay + 260
    memory.close()


def test_instructions_keep_their_order_when_only_the_later_one_is_folded() -> None:
    engine = Engine(":memory:")
    memory = MnesisMemory.from_defaults(engine=engine, token_limit=20)
    first, second = system("rule word word word "), system("rule word word word word ")
    work = [calls("a", "b"), result("a", "word "), result("b", "word " * 25)]
    memory.put_messages([user("word " * 28), first, user("word " * 60), assistant("word " * 60), second, *work, *work])
    concurrency.run(engine.wait_for_tasks())
    assert [message for message in memory.get(initial_token_count=5) if message in (first, second)] == [first, second]
    memory.close()


def test_a_history_that_fits_is_returned_as_it_is(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=5_000)
    said = [system("be brief"), user("a"), calls("1"), result("1"), assistant("b"), user("c"), user("d")]
    memory.put_messages(said)
    assert memory.get() == said


def test_what_was_said_before_the_first_user_message_is_told_in_front(memory: MnesisMemory) -> None:
    memory.put_messages([assistant("Welcome to {query_str}!"), user("hi")])
    told, asked = memory.get()
    assert told.role == MessageRole.SYSTEM
    assert OPENING_HEADER in str(told.content)
    assert "Welcome" in str(told.content)
    assert "{query_str}" not in str(told.content)
    assert asked == user("hi")


def test_without_any_user_message_a_view_is_the_history(memory: MnesisMemory) -> None:
    said = [assistant("Welcome!"), calls("1"), result("1")]
    memory.put_messages(said)
    assert memory.get() == said


def test_the_summary_is_one_system_message_or_part_of_the_first_user_one(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(session_id="s", token_limit=2_000)
    memory.put_messages(turns(40))
    memory.compact()
    summary, first, *_ = memory.get()
    assert summary.role == MessageRole.SYSTEM
    assert "[Summary sum_" in str(summary.content)
    assert first.role == MessageRole.USER
    other = make_memory(session_id="s", token_limit=2_000, summary_insert="user")
    combined = other.get()[0]
    assert combined.role == MessageRole.USER
    assert combined.blocks[0].text == summary.content  # type: ignore[union-attr]  # a TextBlock
    assert combined.blocks[1:] == first.blocks


def test_without_any_user_message_the_view_itself_speaks_as_the_user(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=300, summary_insert="user")
    memory.put_messages([assistant(f"{number} " + "beta " * 40) for number in range(20)])
    note, *_, last = memory.get()
    assert note.role == MessageRole.USER
    assert "left out to save space" in str(note.content) or "[Summary" in str(note.content)
    assert last == assistant("19 " + "beta " * 40)


def test_system_messages_stay_when_everything_around_them_is_folded(make_memory: MakeMemory) -> None:
    memory = make_memory(session_id="s", token_limit=2_000)
    memory.put_messages([system("always answer in verse"), *turns(10), system("never mention beta"), *turns(30)])
    memory.compact()
    for view in (memory.get(), make_memory(session_id="s", token_limit=400).get()):
        assert [
            message for message in view if message in (system("always answer in verse"), system("never mention beta"))
        ] == [
            system("always answer in verse"),
            system("never mention beta"),
        ]
    memory.reset()
    memory.put(user("new"))
    assert memory.get() == [user("new")]


def test_a_huge_tool_output_becomes_a_pointer_and_its_call_stays(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=500)
    memory.put_messages([user("look it up"), calls("1"), result("1", "data " * 5_000)])
    asked, called, answered = memory.get()
    assert (asked, called) == (user("look it up"), calls("1"))
    assert answered.role == MessageRole.TOOL
    assert answered.additional_kwargs == {"tool_call_id": "1"}
    assert "lcm_expand" in str(answered.content)
    assert memory.get_all()[2] == result("1", "data " * 5_000)


def test_many_large_tool_calls_are_counted(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=3_000)
    for number in range(20):
        memory.put_messages([user("go"), calls(f"c{number}", q="word " * 200), result(f"c{number}"), assistant("ok")])
    view = memory.get()
    written = sum(len(str(part.input).split()) for message in view for part in to_record(message).tool_calls)
    assert written <= 3_000
    assert len(memory.get_all()) == 80


def test_a_single_turn_of_two_hundred_calls_fits(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=1_500)
    memory.put(user("do it all"))
    for number in range(200):
        memory.put_messages([calls(f"c{number}", q="w " * 20), result(f"c{number}", "r " * 20)])
    view = memory.get()
    assert user("do it all") in view
    assert view[-1].additional_kwargs["tool_call_id"] == "c199"
    check_pairs(view)
    assert sum(len(text_of([message]).split()) for message in view) < 1_500


def test_the_newest_message_is_there_even_if_it_alone_is_over_the_limit(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=50)
    memory.put_messages(turns(3))
    memory.put(user("long " * 500))
    assert memory.get()[-1] == user("long " * 500)
    assert memory.get(initial_token_count=50)[-1] == user("long " * 500)


def test_what_is_left_out_for_want_of_room_is_said(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=1_000)
    memory.put_messages(turns(12))
    view = memory.get(initial_token_count=800)
    assert "left out to save space" in str(view[0].content) or "[Summary" in str(view[0].content)
    assert view[-1] == turns(12)[-1]


def test_a_summary_cannot_fill_in_variables_of_prompt_templates(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=2_000)
    memory.put_messages(
        [user("what is {context_str} and {query_str}?"), assistant("{context_str} is a variable"), *turns(40)]
    )
    memory.compact()
    summary = str(memory.get()[0].content)
    assert "{context_str}" not in summary
    assert "{query_str}" not in summary
