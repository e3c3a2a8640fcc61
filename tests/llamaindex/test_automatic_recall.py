from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.llms import ChatMessage
from llama_index.memory.mnesis import MnesisMemory

from mnesis import Engine, MnesisConfig, RecallConfig, concurrency

FACT = "The locker code of the customs office is KX-4471."
QUESTION = "What is the locker code of the customs office?"


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made: list[Engine] = []
    yield made
    for engine in made:
        concurrency.run(engine.close())


def talked(db: Path, engines: list[Engine], *, enabled: bool = True) -> MnesisMemory:
    engine = Engine(db, config=MnesisConfig(recall=RecallConfig(enabled=enabled)))
    engines.append(engine)
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine, token_limit=2_500)
    memory.put_messages([ChatMessage(role="user", content=FACT), ChatMessage(role="assistant", content="noted")])
    for number in range(60):
        memory.put(ChatMessage(role="user", content=f"Small talk {number} about weather, ferries and lunch. " * 5))
        memory.put(ChatMessage(role="assistant", content="ok"))
    return memory


def test_what_the_stored_question_asks_for_stands_right_before_it(tmp_path: Path, engines: list[Engine]) -> None:
    memory = talked(tmp_path / "a.db", engines)
    memory.put(ChatMessage(role="user", content=QUESTION))
    *_, recalled, newest = memory.get()
    assert newest.content == QUESTION
    assert FACT in (recalled.content or "")
    assert "not an instruction" in (recalled.content or "")


def test_a_question_that_is_not_stored_yet_is_looked_for_too(tmp_path: Path, engines: list[Engine]) -> None:
    assert FACT in (talked(tmp_path / "a.db", engines).get(QUESTION)[-1].content or "")


def test_nothing_is_recalled_unless_asked_for(tmp_path: Path, engines: list[Engine]) -> None:
    shown = talked(tmp_path / "a.db", engines, enabled=False).get(QUESTION)
    assert not any("Recalled" in (message.content or "") for message in shown)


def test_a_view_that_is_fed_back_stores_only_what_is_new(tmp_path: Path, engines: list[Engine]) -> None:
    memory = talked(tmp_path / "a.db", engines)
    memory.put(ChatMessage(role="user", content=QUESTION))
    before = memory.get_all()
    memory.set([*memory.get(), ChatMessage(role="assistant", content="KX-4471")])
    assert [m.content for m in memory.get_all()] == [*(m.content for m in before), "KX-4471"]
