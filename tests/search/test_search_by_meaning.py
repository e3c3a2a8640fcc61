"""`RecallConfig.vectors`: embedding functions and objects, kept up to date with the log, through every way to search."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import ValidationError

from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession, RecallConfig
from mnesis.cli.app import cli
from mnesis.config import ModelOverrides, StoreConfig
from mnesis.errors import ConfigurationError
from mnesis.formats.text import message_text
from mnesis.search import embedders
from mnesis.store.embedding_store import BATCH_MESSAGES

THEMES = (("doctor", "physician", "health"), ("car", "tyres", "garage"), ("garden", "tomatoes", "yard"))
PAIRS = (
    ("My physician told me to rest.", "Good advice."),
    ("The tyres are worn.", "Buy new ones."),
    ("We planted tomatoes.", "They need sun."),
)


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Embed by theme: one dimension for each, and one for no theme."""
    rows = ([float(any(word in text.lower() for word in theme)) for theme in THEMES] for text in texts)
    return [[*row, float(not any(row))] for row in rows]


class Counting:
    """An embedding function that counts the texts it is given, and remembers in which threads."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        self.threads.add(threading.get_ident())
        return embed(texts)


class ChainEmbeddings(Embeddings):
    model = "themes"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return embed([text])[0]


class IndexEmbedding(BaseEmbedding):
    def _get_query_embedding(self, query: str) -> list[float]:
        return embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        raise NotImplementedError

    def _get_text_embedding(self, text: str) -> list[float]:
        return embed([text])[0]


async def embed_async(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return embed(texts)


def config(vectors: object, **settings: Any) -> MnesisConfig:
    return MnesisConfig(recall=RecallConfig(vectors=vectors, **settings))


async def create(engine: Engine, session_id: str = "s") -> MnesisSession:
    session = await MnesisSession.create(model=None, session_id=session_id, engine=engine, system_prompt="")
    for pair in PAIRS:
        await session.record(*pair)
    return session


@pytest.mark.parametrize(
    ("vectors", "name"),
    [
        (embed, f"{__name__}.embed"),
        (embed_async, f"{__name__}.embed_async"),
        (lambda texts: embed_async(texts), f"{__name__}.<lambda>"),
        (ChainEmbeddings(), f"{__name__}.ChainEmbeddings themes"),
        (IndexEmbedding(model_name="themes"), f"{__name__}.IndexEmbedding themes"),
        ("wordllama", "wordllama l2_supercat 256"),
    ],
    ids=["function", "coroutine", "awaitable", "langchain", "llama-index", "wordllama"],
)
@pytest.mark.parametrize("db", ["s.db", ":memory:"])
async def test_a_question_finds_messages_that_share_no_word(tmp_path: Path, vectors: Any, name: str, db: str) -> None:
    path = db if db == ":memory:" else tmp_path / db
    async with Engine(path, config=config(vectors)) as engine:
        session = await create(engine)
        assert (await session.search("doctor"))[0].excerpt == "My physician told me to rest."
        assert (await engine.search("garden"))[0].excerpt == "We planted tomatoes."
        assert await engine.store.messages_without_vectors(None, name) == []
        await session.close()


async def test_each_message_is_embedded_once_and_off_the_event_loop(tmp_path: Path) -> None:
    count = Counting()
    async with Engine(tmp_path / "s.db", config=config(count)) as engine:
        session = await create(engine)
        assert count.texts == []
        await session.search("doctor")
        await session.search("garden")
        await session.record("The garage called.", "Good.")
        assert "The garage called." in [hit.excerpt for hit in (await session.search("car"))[:2]]
        await engine.search("car")
        written = [text for pair in (*PAIRS, ("The garage called.", "Good.")) for text in pair]
        assert sorted(count.texts) == sorted([*written, "doctor", "garden", "car", "car"])
        assert threading.get_ident() not in count.threads
        await session.close()
    again = Counting()
    async with Engine(tmp_path / "s.db", config=config(again, vectors_name=f"{__name__}.Counting")) as engine:
        await engine.search("doctor", session_id="s")
        assert again.texts == ["doctor"]


async def test_many_messages_are_embedded_in_batches_of_bounded_size(tmp_path: Path) -> None:
    sizes = []

    def embed_batch(texts: list[str]) -> list[list[float]]:
        sizes.append(len(texts))
        return embed(texts)

    async with Engine(tmp_path / "s.db", config=config(embed_batch)) as engine:
        session = await create(engine)
        for _ in range(BATCH_MESSAGES // 2):
            await session.record("a", "b " * 700)
        await session.search("doctor")
        assert max(sizes) == embedders.MAX_BATCH_TEXTS
        assert (await session.search("doctor")).missing_vectors == 0
        await session.close()


async def test_another_name_computes_all_vectors_again(tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db", config=config(embed, vectors_name="one")) as engine:
        await (await create(engine)).close()
        await engine.search("doctor", session_id="s")
    count = Counting()
    async with Engine(tmp_path / "s.db", config=config(count, vectors_name="two")) as engine:
        await engine.search("doctor", session_id="s")
        assert len(count.texts) == 1 + 2 * len(PAIRS)


async def test_damaged_and_missing_vectors_are_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, config=config(embed)) as engine:
        await (await create(engine)).close()
        expected = await engine.search("doctor", session_id="s")
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE search_vectors SET vectors = x'000401020304' WHERE key & 255 = 1")
            connection.execute("DELETE FROM search_vectors WHERE key & 255 = 5")
        connection.close()
        assert [finding.check for finding in await engine.store.check()] == ["search"]
        with caplog.at_level(logging.WARNING):
            assert await engine.search("doctor", session_id="s") == expected
        assert "1 damaged vectors" in caplog.text
        assert await engine.store.check() == []


async def test_a_failing_embedding_function_leaves_the_search_by_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(texts: list[str]) -> list[list[float]]:
        raise OSError("the provider is away")

    def fail_for_messages(texts: list[str]) -> list[list[float]]:
        return embed(texts) if texts == ["tomatoes"] else fail(texts)

    for function in (fail, fail_for_messages):
        async with Engine(tmp_path / f"{function.__name__}.db", config=config(function)) as engine:
            session = await create(engine)
            with caplog.at_level(logging.WARNING):
                assert (await session.search("tomatoes"))[0].excerpt == "We planted tomatoes."
            assert "the provider is away" in caplog.text
            caplog.clear()
            await session.close()


@pytest.mark.parametrize("wrong", [lambda texts: embed(texts)[1:], lambda texts: ["a"] * len(texts)])
async def test_a_function_that_returns_something_else_is_named(tmp_path: Path, wrong: Any) -> None:
    async with Engine(tmp_path / "s.db", config=config(wrong)) as engine:
        session = await create(engine)
        with pytest.raises(ConfigurationError, match=r"vectors for|finite numbers"):
            await session.search("doctor")
        await session.close()


@pytest.mark.parametrize("wrong", ["potion", 5, Counting, object()])
def test_a_setting_that_is_no_embedding_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected 'wordllama', a function"):
        RecallConfig(vectors=wrong)


@pytest.mark.parametrize(("vectors", "package"), [("wordllama", "wordllama"), (embed, "numpy")])
def test_a_missing_extra_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch, vectors: object, package: str
) -> None:
    find = embedders.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ImportError, match=r"pip install 'mnesis-context\[vectors\]'"):
        Engine(":memory:", config=config(vectors))


async def test_automatic_recall_and_the_tools_search_by_meaning(tmp_path: Path) -> None:
    settings = MnesisConfig(
        recall=RecallConfig(enabled=True, vectors=embed),
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
        model_overrides=ModelOverrides(context_limit=20_000, max_output_tokens=256),
    )
    async with MnesisSession.open(model=None, db_path=tmp_path / "s.db", config=settings, system_prompt="") as session:
        for pair in PAIRS:
            await session.record(*pair)
        for number in range(20):
            await session.record(f"Note {number} is about nothing.", "So be it. " * 40)
        await session.compact()
        shown = {message.id for message in (await session.window()).messages}
        window = await session.window(message="doctor")
        block = "\n".join(message_text(message) for message in window.messages if message.id not in shown)
        assert "My physician told me to rest." in block
        tools = {tool.name: tool.handler for tool in session.recall_tools()}
        assert "My physician told me to rest." in await tools["lcm_grep"](pattern="doctor", mode="words")


async def test_a_read_only_database_is_searched_with_the_vectors_it_has(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Engine(path, config=config(embed)) as engine:
        session = await create(engine)
        await session.search("doctor")
        await session.record("A new garden.", "Nice.")
        await session.close()
    read_only = MnesisConfig(recall=RecallConfig(vectors=embed), store=StoreConfig(read_only=True))
    async with Engine(path, config=read_only) as engine:
        page = await engine.search("doctor", session_id="s")
        assert page[0].excerpt == "My physician told me to rest."


def test_the_command_line_searches_by_meaning(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def fill() -> None:
        async with Engine(path) as engine:
            await (await create(engine)).close()

    asyncio.run(fill())
    runner = CliRunner()
    assert "physician" not in runner.invoke(cli, ["search", "doctor", "--db", str(path)]).output
    found = runner.invoke(cli, ["search", "doctor", "--vectors", "wordllama", "--db", str(path)])
    assert "My physician told me to rest." in found.output
