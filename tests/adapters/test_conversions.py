"""An adapter converts a message once, reads the database once for a window, and returns objects that nobody else has."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from mnesis.session.conversion_cache import ConversionCache
from mnesis.store.sqlite import SqliteStore

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from langchain_mnesis import MnesisChatMessageHistory
from pydantic_ai_mnesis import MnesisHistory

Write = Callable[[str], Awaitable[Any]]
Read = Callable[[], Awaitable[list[Any]]]


def langchain(engine: Engine) -> tuple[Write, Read]:
    history = MnesisChatMessageHistory("s", engine=engine)

    def read() -> Awaitable[list[Any]]:
        history.refresh()
        return history.aget_messages()

    return lambda text: history.aadd_messages(
        [HumanMessage(text), AIMessage(text, response_metadata={"a": [text]})]
    ), read


def llamaindex(engine: Engine) -> tuple[Write, Read]:
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine)
    return (
        lambda text: memory.aput_messages(
            [ChatMessage(text), ChatMessage(text, role="assistant", additional_kwargs={"a": [text]})]
        ),
        memory.aget,
    )


def pydantic_ai(engine: Engine) -> tuple[Write, Read]:
    history = MnesisHistory("s", engine=engine, model="openai/gpt-4o")

    def write(text: str) -> Awaitable[None]:
        return history.add("s", [ModelRequest([UserPromptPart(text)]), ModelResponse([TextPart(text)])])

    return write, lambda: history.messages("s")


ADAPTERS = pytest.mark.parametrize("adapter", [langchain, llamaindex, pydantic_ai], ids=lambda each: each.__name__)


@ADAPTERS
async def test_a_message_is_converted_once(adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[ConversionCache[Any]] = []
    initialize = ConversionCache.__init__

    def record(cache: ConversionCache[Any]) -> None:
        initialize(cache)
        caches.append(cache)

    monkeypatch.setattr(ConversionCache, "__init__", record)
    async with Engine(tmp_path / "s.db") as engine:
        write, read = adapter(engine)
        for number in range(1, 8):
            await write(f"text {number}")
            for _ in range(3):
                assert len(await read()) == 2 * number
            assert sum(cache.conversions for cache in caches) == 2 * number


@ADAPTERS
async def test_changing_a_returned_message_changes_no_other(adapter: Any, tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db") as engine:
        write, read = adapter(engine)
        await write("text")
        await write("more")
        expected = copy.deepcopy(await read())
        for _ in range(3):
            messages = await read()
            assert messages == expected
            for message in messages:
                for name, value in vars(message).items():
                    if isinstance(value, list):
                        value.clear()
                    elif isinstance(value, dict):
                        value["changed"] = True
                    elif name == "content":
                        message.content = "changed"
                vars(message)["changed"] = True


@ADAPTERS
async def test_a_window_is_read_once(adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()
    async with Engine(tmp_path / "s.db") as engine:
        write, read = adapter(engine)
        await write("text")
        await read()
        for name in ("active_context", "session", "messages", "covered_messages"):
            original = getattr(SqliteStore, name)

            def count(store: Any, *arguments: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
                reads[_name] += 1
                return _original(store, *arguments, **options)

            monkeypatch.setattr(SqliteStore, name, count)
        for _ in range(3):
            await read()
    assert reads == {"active_context": 3}
