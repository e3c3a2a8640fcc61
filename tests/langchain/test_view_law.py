"""What an agent's model is shown consists of exactly the state's messages, in the state's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest

from tests.support.samples import sampled

pytest.importorskip("langchain.agents")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage, convert_to_messages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import PrivateAttr

from langchain_mnesis import MnesisMiddleware
from langchain_mnesis.messages.convert import from_record
from mnesis import Engine, concurrency, sync
from mnesis.models.summary import Summary
from tests.support.langchain_fakes import FakeModel, texts_of

PAD = " word" * 40


class Recorder(AgentMiddleware[Any, Any, Any]):
    """Records the state of each model call."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[list[BaseMessage]] = []

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self.states.append(convert_to_messages(request.state["messages"]))
        return handler(request)


class ExpandingModel(FakeModel):
    """Records what each request consists of, with summaries expanded from the log."""

    _engine: Engine = PrivateAttr()
    _expanded: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self._expanded.append(concurrency.run(self._expand()))
        return super()._generate(messages, *args, **kwargs)

    async def _expand(self) -> list[BaseMessage]:
        store = self._engine.store
        records = []
        for item in (await store.active_context("t")).items:
            records += await store.covered_messages("t", item.id) if isinstance(item, Summary) else [item]
        return [message for record in records for message in from_record(record)]


def keep_raw(left: list[Any], right: Any) -> list[Any]:
    """A reducer that gives messages no ids, as `DeltaChannel` and `operator.add` do."""
    new = right if isinstance(right, list) else [right]
    if any(isinstance(m, RemoveMessage) and m.id == REMOVE_ALL_MESSAGES for m in new):
        return [m for m in new if not isinstance(m, RemoveMessage)]
    return [*left, *new]


class RawState(AgentState[Any]):
    messages: Annotated[list[AnyMessage], keep_raw]


class Conversation:
    """An agent with a thread, whose state may be changed, rewound and forked at any time."""

    def __init__(self, engine: Engine, *, has_ids: bool) -> None:
        self.engine, self.saver, self.number = engine, InMemorySaver(), 0
        self.has_ids = has_ids
        self.config: Any = {"configurable": {"thread_id": "t"}}
        self.recorder, self.model = Recorder(), ExpandingModel(messages=self._answers())
        self.model._engine = engine
        self.restart()

    def restart(self) -> None:
        """Continue as a new process would: with nothing but the checkpoints and the log."""
        middleware = MnesisMiddleware(
            engine=self.engine, trigger=("messages", 8), keep=("messages", 2), recall_tools=False
        )
        schema = {} if self.has_ids else {"state_schema": RawState}
        self.agent = create_agent(
            self.model, [], middleware=[self.recorder, middleware], checkpointer=self.saver, **schema
        )

    def _answers(self) -> Iterator[AIMessage]:
        while True:
            yield AIMessage(f"answer {self.number}{PAD}")

    def ask(self) -> None:
        self.number += 1
        self.agent.invoke({"messages": [("user", f"question {self.number}{PAD}")]}, self.config)
        self.config = {"configurable": {"thread_id": "t"}}
        self.check()

    def check(self) -> None:
        state, shown, request = self.recorder.states[-1], self.model._expanded[-1], self.model.asked[-1]
        assert texts_of(shown) == texts_of(state)
        assert [m.id for m in shown] == [m.id for m in state] or not self.has_ids
        verbatim = [text for m, text in zip(request, texts_of(request), strict=True) if not m.additional_kwargs]
        positions = [texts_of(state).index(text) for text in verbatim]
        assert positions == sorted(positions)
        assert texts_of(request)[-1] == texts_of(state)[-1], "the newest message is never summarised"

    @property
    def messages(self) -> list[BaseMessage]:
        state = self.agent.get_state(self.config).values.get("messages", [])
        return convert_to_messages(state)

    def rewrite(self, change: Callable[[list[BaseMessage]], list[BaseMessage]]) -> None:
        messages = change(list(self.messages))
        update = {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *messages]}
        if messages:
            self.config = self.agent.update_state(self.config, update)

    def insert(self, position: int) -> None:
        self.number += 1
        message = HumanMessage(f"note {self.number}{PAD}", id=f"note-{self.number}" if self.has_ids else None)
        self.rewrite(lambda messages: [*messages[:position], message, *messages[position:]])

    def edit(self, position: int) -> None:
        self.number += 1
        text = f"edited {self.number}{PAD}"
        self.rewrite(
            lambda messages: [
                m.model_copy(update={"content": text}) if i == position else m for i, m in enumerate(messages)
            ]
        )

    def delete(self, position: int) -> None:
        self.rewrite(lambda messages: [m for i, m in enumerate(messages) if i != position])

    def move(self, position: int) -> None:
        self.rewrite(lambda messages: [*messages[position:], *messages[:position]])

    def rewind(self, position: int) -> None:
        history = list(self.agent.get_state_history({"configurable": {"thread_id": "t"}}))
        if history:
            self.config = history[position % len(history)].config

    def fold(self, _: int) -> None:
        try:
            session = sync.SyncSession.load("t", engine=self.engine)
        except Exception:  # there is no session before the first call
            return
        session.compact(keep_tokens=0)


@contextmanager
def conversation(*, has_ids: bool = True) -> Iterator[Conversation]:
    engine = Engine(":memory:")
    try:
        yield Conversation(engine, has_ids=has_ids)
    finally:
        concurrency.run(engine.close())


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "insert", "edit", "delete", "move", "rewind", "fold", "restart"]),
        st.integers(0, 12),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=sampled(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, has_ids=st.booleans())
def test_the_view_follows_any_edit_rewind_fork_and_fold(actions: list[tuple[str, int]], has_ids: bool) -> None:
    with conversation(has_ids=has_ids) as thread:
        for _ in range(4):
            thread.ask()
        for name, position in actions:
            action = getattr(thread, name)
            if name in ("ask", "restart"):
                action()
            else:
                action(position)
        thread.ask()
        session = sync.SyncSession.load("t", engine=thread.engine)
        assert concurrency.run(thread.engine.store.check(session_id=session.id)) == []


def test_a_rewound_thread_is_shown_without_the_future_that_was_folded() -> None:
    with conversation() as thread:
        for _ in range(8):
            thread.ask()
        assert len(thread.model.asked[-1]) < len(thread.recorder.states[-1]), "nothing was folded"
        early = next(s for s in thread.agent.get_state_history(thread.config) if len(s.values.get("messages", [])) == 3)
        thread.agent.invoke(None, early.config)
        assert [text[:10] for text in texts_of(thread.model.asked[-1])] == ["question 1", "answer 1 w", "question 2"]


def test_returning_to_a_branch_brings_its_summaries_back() -> None:
    with conversation() as thread:
        for _ in range(8):
            thread.ask()
        branch = thread.agent.get_state(thread.config).config
        shown = texts_of(thread.model.asked[-1])
        log_length = len(sync.SyncSession.load("t", engine=thread.engine).messages())
        thread.rewind(len(list(thread.agent.get_state_history(thread.config))) - 3)
        thread.ask()
        thread.config = branch
        thread.ask()
        again = texts_of(thread.model.asked[-1])
        assert again[0] == shown[0]
        assert len(again) == len(shown) + 2
        assert len(sync.SyncSession.load("t", engine=thread.engine).messages()) == log_length + 4


def test_the_content_of_a_removed_message_is_shown_through_no_summary() -> None:
    with conversation() as thread:
        for _ in range(8):
            thread.ask()
        secret = thread.messages[2]
        thread.config = thread.agent.update_state(thread.config, {"messages": [RemoveMessage(id=str(secret.id))]})
        thread.ask()
        assert all("question 2" not in text for text in texts_of(thread.model.asked[-1]))


def test_a_trimmed_state_keeps_its_summaries_and_loses_them_when_rewound() -> None:
    with conversation() as thread:
        middleware = MnesisMiddleware(
            engine=thread.engine, trigger=("messages", 8), keep=("messages", 2), state="trim", recall_tools=False
        )
        agent = create_agent(thread.model, [], middleware=[middleware], checkpointer=thread.saver)
        for number in range(8):
            agent.invoke({"messages": [("user", f"question {number}{PAD}")]}, thread.config)
        assert len(agent.get_state(thread.config).values["messages"]) < 8
        assert "question 0" in texts_of(thread.model._expanded[-1])[0]
        early = [s for s in agent.get_state_history(thread.config) if len(s.values.get("messages", [])) == 3][-1]
        agent.invoke(None, early.config)
        assert [text[:10] for text in texts_of(thread.model.asked[-1])] == ["question 0", "answer 0 w", "question 1"]
