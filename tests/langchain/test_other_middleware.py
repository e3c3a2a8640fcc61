"""What other middleware makes of a request is what the model gets, whatever the order of the middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ContextEditingMiddleware
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, sync
from tests.support.langchain_fakes import FakeModel, ReadLog, texts_of

THREAD = {"configurable": {"thread_id": "t"}}
SECRET = "hunter2"


class Redactor(AgentMiddleware[Any, Any, Any]):
    """Removes a secret from every request, and from nothing else."""

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        messages = [
            m.model_copy(update={"content": m.content.replace(SECRET, "[redacted]")})
            if isinstance(m.content, str)
            else m
            for m in request.messages
        ]
        return handler(request.override(messages=messages))


def run_agent(engine: Engine, other: AgentMiddleware[Any, Any, Any], *, is_inner: bool) -> tuple[FakeModel, FakeModel]:
    """Ask ten questions. Returns the agent's model and the model that wrote the summaries."""
    model, writer = FakeModel(), FakeModel()
    mnesis = MnesisMiddleware(writer, engine=engine, trigger=("messages", 8), keep=("messages", 2), recall_tools=False)
    middleware = [other, mnesis] if is_inner else [mnesis, other]
    agent = create_agent(model, [], middleware=middleware, checkpointer=InMemorySaver())
    for number in range(10):
        question = f"question {number}: my password is {SECRET}. " + "word " * 60
        agent.invoke({"messages": [("user", question)]}, THREAD)
    return model, writer


@pytest.mark.parametrize("is_inner", [True, False])
def test_a_redacted_secret_reaches_no_model_and_no_summary(is_inner: bool, engine: Engine, log: ReadLog) -> None:
    model, writer = run_agent(engine, Redactor(), is_inner=is_inner)
    assert writer.asked, "nothing was summarised"
    for messages in [*model.asked, *writer.asked]:
        assert SECRET not in str(texts_of(messages))
    assert "[redacted]" in str(texts_of(model.asked[-1]))
    assert any("[redacted]" in str(texts_of(messages)) for messages in writer.asked)
    assert sum(SECRET in text for _, text in log("t")) == 10
    session = sync.SyncSession.load("t", engine=engine)
    assert all(SECRET not in summary.text for summary in session.summaries())


@pytest.mark.parametrize("state", ["keep", "trim"])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("is_inner", [True, False])
def test_a_secret_that_the_model_writes_reaches_no_summary(
    is_inner: bool, restarts: bool, state: Any, engine: Engine
) -> None:
    """The newest answer was not in any request yet, so no redactor has seen it when it would be summarised."""
    model = FakeModel(messages=(AIMessage(f"{n}: I noted {SECRET}. " + "word " * 60) for n in range(100)))
    writer, saver = FakeModel(), InMemorySaver()

    def create() -> Any:
        memory = MnesisMiddleware(
            writer, engine=engine, trigger=("messages", 6), keep=("messages", 1), state=state, recall_tools=False
        )
        middleware = [Redactor(), memory] if is_inner else [memory, Redactor()]
        return create_agent(model, [], middleware=middleware, checkpointer=saver)

    agent = create()
    for number in range(8):
        agent.invoke({"messages": [("user", f"question {number}" + " word" * 60)]}, THREAD)
        if restarts and number % 2:
            agent = create()
    assert writer.asked, "nothing was summarised"
    assert len(model.asked[-1]) < 16, "the view is not shortened"
    for messages in [*model.asked, *writer.asked]:
        assert SECRET not in str(texts_of(messages))


@pytest.mark.parametrize(
    ("unit", "trigger", "keep"), [("messages", 12, 20), ("tokens", 500, 500), ("fraction", 0.2, 0.5)]
)
def test_a_trigger_that_no_compaction_can_satisfy_warns(unit: Any, trigger: float, keep: float, engine: Engine) -> None:
    with pytest.warns(
        UserWarning, match=r"still reached after a compaction.*pass a smaller keep= or a larger trigger="
    ):
        MnesisMiddleware(engine=engine, trigger=(unit, trigger), keep=(unit, keep))


@pytest.mark.parametrize("is_inner", [True, False])
def test_a_change_that_does_not_repeat_is_made_once(is_inner: bool, engine: Engine) -> None:
    class Marker(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
            marked = [m.model_copy(update={"content": f"<{m.text}>"}) for m in request.messages]
            return handler(request.override(messages=marked))

    model = FakeModel()
    middleware: list[Any] = [Marker(), MnesisMiddleware(engine=engine, recall_tools=False)]
    agent = create_agent(
        model, [], middleware=middleware if is_inner else middleware[::-1], checkpointer=InMemorySaver()
    )
    for text in ("one", "two", "three"):
        agent.invoke({"messages": [("user", text)]}, THREAD)
    assert texts_of(model.asked[-1]) == ["<one>", "<answer 1>", "<two>", "<answer 2>", "<three>"]


@pytest.mark.parametrize("is_inner", [True, False])
def test_cleared_tool_results_stay_cleared_and_are_logged_in_full(is_inner: bool, engine: Engine) -> None:
    def search(q: str) -> str:
        """Search."""
        return f"found {q} " + "word " * 400

    def answers() -> Any:
        for number in range(6):
            call = {"name": "search", "args": {"q": str(number)}, "id": f"c{number}", "type": "tool_call"}
            yield AIMessage("", tool_calls=[call])
        yield AIMessage("done")

    model = FakeModel(messages=answers())
    mnesis = MnesisMiddleware(engine=engine, recall_tools=False)
    other = ContextEditingMiddleware()
    other.edits[0].trigger, other.edits[0].keep = 800, 1
    agent = create_agent(
        model,
        [search],
        middleware=[other, mnesis] if is_inner else [mnesis, other],
        checkpointer=InMemorySaver(),
    )
    agent.invoke({"messages": [("user", "go")]}, THREAD)
    results: list[BaseMessage] = [m for m in model.asked[-1] if isinstance(m, ToolMessage)]
    assert len(results) == 6
    assert sum("found" in str(m.text) for m in results) == 1
    logged = [m for m in sync.SyncSession.load("t", engine=engine).messages() if m.role == "tool"]
    assert all("found" in result.output for m in logged for result in m.tool_results)
