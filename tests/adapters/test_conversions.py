"""An adapter converts a message once, reads the database once for a window, and returns objects that nobody else has."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from mnesis.session import conversion_cache
from mnesis.session.conversion_cache import ConversionCache
from mnesis.store import context_cache
from mnesis.store.sqlite import SqliteStore

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")
pytest.importorskip("agents")

from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from agents_mnesis import MnesisAgentSession
from langchain_mnesis import MnesisChatMessageHistory
from pydantic_ai_mnesis import MnesisHistory
from tests.support.histories import text_message

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


def agents_sdk(engine: Engine) -> tuple[Write, Read]:
    session = MnesisAgentSession("s", engine=engine)
    return (
        lambda text: session.add_items([{"role": "user", "content": text}, {"role": "assistant", "content": [text]}]),  # type: ignore[list-item]
        session.get_items,  # type: ignore[return-value]  # items are dicts
    )


@pytest.mark.parametrize("adapter", [langchain, llamaindex, pydantic_ai, agents_sdk], ids=lambda each: each.__name__)
async def test_reading_again_copies_and_compares_no_record(
    adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def count(module: Any, name: str) -> None:
        original = getattr(module, name)

        def record(*arguments: Any) -> Any:
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, name, record)

    async with Engine(tmp_path / "s.db") as engine:
        write, read = adapter(engine)
        for number in range(5):
            await write(f"text {number}")
        first = await read()
        count(context_cache, "copy_message")
        count(conversion_cache, "_is_equal_part")
        assert await read() == first
        await write("more")
        assert (await read())[:10] == first
    assert not calls


async def test_what_cannot_be_copied_is_converted_from_records_of_its_own() -> None:
    record = text_message("assistant", "text").model_copy(update={"extra": {"x": [1]}})
    cache: ConversionCache[Any] = ConversionCache()

    def convert(records: Any) -> list[Any]:
        return [(object(), records[0].extra)]

    for _ in range(2):
        ((returned,),) = cache.read("s", [(record,)], convert)
        returned[1]["x"].append(2)
    assert record.extra == {"x": [1]}
