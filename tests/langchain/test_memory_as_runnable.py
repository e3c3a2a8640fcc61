"""A memory is a runnable like any other: typed, named in traces, copied, pickled and serialised."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableSequence
from langchain_core.tracers import Run
from langchain_core.tracers.base import BaseTracer
from pydantic import BaseModel

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory, MnesisMiddleware, history_factory
from mnesis import CompactionConfig, Engine, MnesisConfig, ModelOverrides, concurrency
from mnesis.errors import ConfigurationError
from tests.support.langchain_fakes import texts_of
from tests.support.warm_python import run_python

PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
# The oldest supported langchain-core has no list of classes that may be loaded.
LOAD_OPTIONS: dict[str, Any] = (
    {
        "allowed_objects": [
            MnesisMemory,
            RunnableSequence,
            ChatPromptTemplate,
            MessagesPlaceholder,
            HumanMessagePromptTemplate,
            PromptTemplate,
            StrOutputParser,
        ]
    }
    if "allowed_objects" in inspect.signature(loads).parameters
    else {}
)
KEYS: dict[str, Any] = {"input_messages_key": "question", "history_messages_key": "history"}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


def answer(messages: Any) -> AIMessage:
    return AIMessage(f"answer {len(messages)}")


class RunNames(BaseTracer):
    """Records the runs as LangSmith would show them."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


def test_runs_are_named_in_traces(engine: Engine) -> None:
    memory = MnesisMemory(PROMPT | FakeListChatModel(responses=["a", "b", "c"]), engine=engine, session_id="s", **KEYS)
    tracer = RunNames()
    named = MnesisMemory(RunnableLambda(answer), engine=engine, session_id="s", name="Assistant")
    for runnable in (memory, named, memory.with_config(run_name="Support")):
        runnable.invoke({"question": "q"}, {"callbacks": [tracer]})
    assert [run.name for run in tracer.roots] == ["MnesisMemory", "Assistant", "Support"]
    assert [run.name for run in tracer.roots[0].child_runs[0].child_runs] == ["ChatPromptTemplate", "FakeListChatModel"]


def test_summary_runs_are_named_and_tagged_in_traces(engine: Engine) -> None:
    tracer = RunNames()
    model = FakeListChatModel(responses=["They spoke of words, and nothing was decided."], callbacks=[tracer])
    config = MnesisConfig(
        compaction=CompactionConfig(compaction_output_budget=1_000),
        model_overrides=ModelOverrides(context_limit=3_001, max_output_tokens=1),
    )
    history = MnesisChatMessageHistory("s", engine=engine, llm=model, config=config)
    for number in range(40):
        history.add_messages([HumanMessage(f"question {number} " + "word " * 60), AIMessage("word " * 60)])
    assert tracer.roots
    assert {run.name for run in tracer.roots} == {"mnesis_summary"}
    assert all("mnesis:summary" in (run.tags or []) for run in tracer.roots)


def test_input_and_output_have_types_and_schemas(engine: Engine) -> None:
    chain = PROMPT | FakeListChatModel(responses=["a"]) | StrOutputParser()
    memory = MnesisMemory(chain, engine=engine, **KEYS)
    assert memory.InputType == dict[str, Any]
    assert memory.OutputType is str
    schema = memory.get_input_jsonschema()
    assert list(schema["properties"]) == ["question"]
    assert schema["required"] == ["question"]
    assert memory.get_output_jsonschema()["type"] == "string"
    plain = MnesisMemory(FakeListChatModel(responses=["a"]), engine=engine)
    assert {option.get("type") for option in plain.get_input_jsonschema()["anyOf"]} >= {"string", "array", "object"}
    assert issubclass(plain.get_output_schema(), BaseModel)


def test_a_memory_keeps_its_settings_when_it_is_serialised(db: Path) -> None:
    config = MnesisConfig(compaction=CompactionConfig(auto=False))
    memory = MnesisMemory(
        PROMPT | StrOutputParser(),
        db_path=db,
        session_key=["user", "chat"],
        config=config,
        model="openai/gpt-4o",
        **KEYS,
    )
    text = dumps(memory)
    restored = loads(text, valid_namespaces=["langchain_mnesis"], **LOAD_OPTIONS)
    assert isinstance(restored, MnesisMemory)
    assert dumps(restored) == text
    assert restored.engine.path == memory.engine.path
    assert restored.engine.config == config
    assert restored.session_key == ("user", "chat")


def test_what_cannot_be_restored_is_marked_as_not_serialisable() -> None:
    class Mood(BaseModel):
        name: str

    for options in ({"db_path": ":memory:"}, {"db_path": "never.db", "types": [Mood]}):
        assert '"type": "not_implemented"' in dumps(MnesisMemory(StrOutputParser(), **options))  # type: ignore[arg-type]


def test_copies_and_pickles_of_a_memory_continue_its_sessions(db: Path) -> None:
    model = FakeListChatModel(responses=["a", "b", "c", "d"])
    memory = MnesisMemory(model, db_path=db, session_id="s")
    memory.invoke("one")
    for other in (copy.copy(memory), copy.deepcopy(memory), pickle.loads(pickle.dumps(memory)), memory.model_copy()):
        other.invoke("again")
    history = MnesisChatMessageHistory("s", db_path=db)
    assert len(history.messages) == 10
    concurrency.run(memory.engine.close())


def test_a_pickle_attaches_in_another_process(db: Path, tmp_path: Path) -> None:
    history = MnesisChatMessageHistory("s", db_path=db, view="full")
    history.add_user_message("from the first process")
    (tmp_path / "history.pickle").write_bytes(pickle.dumps((history, history_factory(db_path=db))))
    program = (
        "import pathlib, pickle, sys\n"
        "history, make = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "make('s').add_ai_message('from the second')\n"
        "print([message.content for message in history.messages], history.view)\n"
    )
    output = run_python(["-c", program, str(tmp_path / "history.pickle")]).stdout
    assert output.strip() == "['from the first process', 'from the second'] full"
    history.refresh()
    assert texts_of(history.messages) == ["from the first process", "from the second"]
    concurrency.run(history.engine.close())


def test_a_pickle_leaves_out_a_model_that_cannot_be_pickled(db: Path) -> None:
    def summarize(messages: Any) -> str:
        return "summary"

    history = MnesisChatMessageHistory("s", db_path=db, llm=summarize)
    with pytest.warns(UserWarning, match="llm= of type function cannot be pickled"):
        pickled = pickle.dumps(history)
    restored = pickle.loads(pickled)
    restored.add_user_message("kept")
    assert texts_of(history.messages) == ["kept"]
    concurrency.run(history.engine.close())


def test_a_pickle_of_a_database_in_memory_works_in_its_process_only() -> None:
    history = MnesisChatMessageHistory("s", db_path=":memory:")
    history.add_user_message("here")
    pickled = pickle.dumps(history)
    assert texts_of(pickle.loads(pickled).messages) == ["here"]
    concurrency.run(history.engine.close())
    with pytest.raises(ConfigurationError, match="memory of another process"):
        pickle.loads(pickled)


def test_a_deep_copy_of_middleware_shares_its_sessions(engine: Engine) -> None:
    middleware = MnesisMiddleware(engine=engine)
    assert copy.deepcopy({"middleware": [middleware]})["middleware"] == [middleware]
