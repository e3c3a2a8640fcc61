"""`MnesisConfig(redact=…)`: what is redacted before it is stored is nowhere on the disk, whichever API brought it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis import CompactionConfig, Engine, FileConfig, LLMMap, MnesisConfig, MnesisSession
from mnesis.errors import LLMServerError
from mnesis.files.redact_chunks import MAX_SECRET_BYTES, redact_chunks
from mnesis.llm.base import LLMReply
from mnesis.models.message import (
    DataPart,
    FilePart,
    ImagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
    text_message,
)
from mnesis.redaction import Redaction
from mnesis.testing import ScriptedLLM
from tests.support.samples import sampled

SECRET = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
MARKED = "[redacted: github-token]"
SMALL = {"context_limit": 16_384, "max_output_tokens": 1_024}


def configured(where: Path, **more: Any) -> MnesisConfig:
    return MnesisConfig(
        redact=more.pop("redact", True),
        file=FileConfig(storage_dir=where / "kept", inline_threshold=200),
        compaction=CompactionConfig(compaction_output_budget=1_024),
        model_overrides=SMALL,
        **more,
    )


def assert_nowhere(where: Path, secret: str = SECRET) -> None:
    """No file below `where` contains the secret, as text, as base64, or as a word of the search index."""
    files = [path for path in where.rglob("*") if path.is_file()]
    assert files
    encoded = [
        base64.b64encode(b"x" * lead + secret.encode()).rstrip(b"=")[4 * lead // 3 + 2 : -2] for lead in range(3)
    ]
    for path in files:
        content = path.read_bytes().lower()
        for needle in (secret.encode(), secret[4:20].encode(), *encoded):
            assert needle.lower() not in content, f"{needle!r} is in {path}"


async def test_every_kind_of_part_is_redacted_and_nothing_stays_on_disk(tmp_path: Path) -> None:
    text = f"the token is {SECRET}, keep it"
    data = base64.b64encode(text.encode()).decode()
    async with MnesisSession.open(
        model="openai/gpt-4o",
        session_id="s",
        db_path=tmp_path / "s.db",
        config=configured(tmp_path),
        system_prompt=text,
    ) as session:
        await session.record(
            [
                TextPart(text=text),
                FilePart(name=f"{SECRET}.txt", text=text),
                FilePart(name="a", data=data),
                ImagePart(data=data),
            ],
            [
                ReasoningPart(text=text, provider={"thinking": text, "signature": "c2lnbmVk"}),
                TextPart(text=text),
                ToolPart(tool_name="t", tool_call_id="c1", input={"a": [text], "password": "plain-secret"}),
                DataPart(kind="k", data={"nested": {"value": text}}, text=text),
            ],
        )
        await session.append([text_message("user", text, extra={"adapter": {"raw": text}})])
        failed = ToolPart(tool_name="t", tool_call_id="c2", error_message=text, status=ToolStatus(state="error"))
        result = ToolResultPart(tool_call_id="c1", output=text, output_parts=(TextPart(text=text),))
        await session.record("go on", [failed, result])
        messages = await session.messages()
        assert messages[0].text_content() == f"the token is {MARKED}, keep it"
        reasoning, _, call, _ = messages[1].parts
        assert isinstance(reasoning, ReasoningPart)
        assert reasoning.provider is None
        assert isinstance(call, ToolPart)
        assert call.input == {"a": [f"the token is {MARKED}, keep it"], "password": "[redacted: secret]"}
        assert call.tool_call_id == "c1"
        assert all(message.token_count > 0 for message in messages)
        assert (await session.search("token")).hits
        assert SECRET not in str(await session.context_for_next_turn())
        assert_nowhere(tmp_path)
        assert_nowhere(tmp_path, "plain-secret")
        assert await session.engine.store.check() == []
    assert_nowhere(tmp_path)


async def test_a_turn_with_tools_files_summaries_and_failures_leaves_no_secret(tmp_path: Path) -> None:
    def read_key() -> str:
        """Read a key."""
        return f"key {SECRET} " * 300

    calls = ToolPart(tool_name="read_key", tool_call_id="c", input={})
    llm = ScriptedLLM(
        [LLMReply(tool_calls=(calls,)), f"It is {SECRET}.", f"Summary with {SECRET}.", LLMServerError(f"no {SECRET}")],
        repeat_last=True,
    )
    log = tmp_path / "input" / "app.log"
    log.parent.mkdir()
    log.write_text(f"{'line of the log ' * 100}\n" * 20 + f"token {SECRET}\n")
    where = tmp_path / "out"
    where.mkdir()
    async with MnesisSession.open(
        model="openai/gpt-4o", session_id="s", db_path=where / "s.db", config=configured(where), llm=llm
    ) as session:
        await session.send(["What is it?", log], tools=[read_key])
        for number in range(8):
            await session.record(f"question {number} with {SECRET} " + "word " * 200, "answer " * 50)
        await session.compact()
        with pytest.raises(LLMServerError):
            await session.send(f"Again: {SECRET}")
        assert SECRET not in str([request.messages for request in llm.requests])
        assert await session.summaries()
        assert_nowhere(where)


@pytest.mark.parametrize("by", ["engine", "session"])
async def test_the_configuration_of_engine_or_session_applies(by: str, tmp_path: Path) -> None:
    config = configured(tmp_path)
    async with Engine(tmp_path / "s.db", config=config if by == "engine" else None) as engine:
        session = await MnesisSession.create(
            model=None, session_id="s", engine=engine, config=config if by == "session" else None, system_prompt=SECRET
        )
        await session.record(SECRET, SECRET)
        assert [m.text_content() for m in await session.messages()] == [MARKED, MARKED]
        assert_nowhere(tmp_path)
        await session.close()


async def test_durable_maps_store_no_secret_and_go_on(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(messages: Any) -> str:
        asked.append(str(messages))
        return json.dumps(f"found {SECRET}")

    async with Engine(tmp_path / "s.db", config=configured(tmp_path), llm=answer) as engine:
        for _ in range(2):
            batch = await LLMMap(engine=engine).run_all(
                [{"api_key": "plain-secret", "text": SECRET}, "b"], "{{ item }}", {"type": "string"}, run_id="r"
            )
            assert [result.success for result in batch.results] == [True, True]
        assert len(asked) == 2
        assert SECRET not in str(asked)
        assert_nowhere(tmp_path)
        assert_nowhere(tmp_path, "plain-secret")


async def test_patterns_and_functions_apply_before_storage(tmp_path: Path) -> None:
    for setting, expected in (
        ({"badge": r"B-\d+"}, f"{MARKED} and [redacted: badge]"),
        (lambda text: text.replace("B-77", "B-xx"), f"{SECRET} and B-xx"),
    ):
        config = configured(tmp_path, redact=setting)
        async with MnesisSession.open(model=None, db_path=":memory:", config=config) as session:
            await session.record(f"{SECRET} and B-77", "ok")
            assert (await session.messages())[0].text_content() == expected


async def test_a_redaction_that_fails_stores_nothing(tmp_path: Path) -> None:
    config = configured(tmp_path, redact=lambda text: None)
    with pytest.raises(TypeError, match="must return the text"):
        async with MnesisSession.open(model=None, db_path=tmp_path / "s.db", config=config) as session:
            await session.record(SECRET, "ok")
    with pytest.raises(ValueError, match="redact"):
        MnesisConfig(redact="pattern")


async def test_nothing_changes_without_the_setting_or_a_secret(tmp_path: Path) -> None:
    message = text_message("user", "no secret")
    async with MnesisSession.open(model=None, db_path=tmp_path / "s.db") as plain:
        await plain.record(SECRET, "ok")
        assert (await plain.messages())[0].text_content() == SECRET
        assert plain.redact([message]) == [message]
    async with MnesisSession.open(model=None, db_path=":memory:", config=configured(tmp_path)) as session:
        assert session.redact([message])[0] is message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
async def test_large_files_are_redacted_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    text = "".join(f"Zeile {n}: größer\n" for n in range(90_000)) + f"token {SECRET}\n" + "Größe é\n" * 50_000
    path = tmp_path / "input.txt"
    path.write_bytes(text.encode(encoding))
    where = tmp_path / "out"
    where.mkdir()
    async with MnesisSession.open(model=None, db_path=where / "s.db", config=configured(where)) as session:
        reference = (await session.files.handle_file(path)).file_ref
        assert reference is not None
        assert session.files.storage.read(reference.content_id) == text.replace(SECRET, MARKED).encode(encoding)


@settings(max_examples=sampled(60), deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 300), max_size=5), st.booleans())
def test_bytes_outside_secrets_never_change(content: bytes, sizes: list[int], with_secret: bool) -> None:
    whole = content + (b"\n" + SECRET.encode() + b"\n" if with_secret else b"") + content
    chunks, rest = [], whole
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert b"".join(redact_chunks([*chunks, rest], Redaction())) == whole.replace(SECRET.encode(), MARKED.encode())


@pytest.mark.parametrize("offset", [-45, 0, 45])
def test_no_window_cuts_a_secret(offset: int) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 500 + "-----END PRIVATE KEY-----"
    # The fourth chunk fills the first window, which is cut so far before its end.
    cut = 4 * 300_000 - MAX_SECRET_BYTES
    filler = b"a line of text\n" * (cut // 15 + 1)
    for secret, marked in ((SECRET, MARKED), (key, "[redacted: private-key]")):
        lead = filler[: cut - len(secret) // 2 + offset] + b"\n"
        content = lead + secret.encode() + b"\n" + filler[:200_000]
        chunks = [content[start : start + 300_000] for start in range(0, len(content), 300_000)]
        assert b"".join(redact_chunks(chunks, Redaction())) == lead + marked.encode() + b"\n" + filler[:200_000]


def test_the_langchain_history_stores_no_secret_and_no_message_twice(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.messages import AIMessage, HumanMessage

    from langchain_mnesis import MnesisChatMessageHistory

    history = MnesisChatMessageHistory("s", db_path=tmp_path / "s.db", config=configured(tmp_path))
    messages = [
        HumanMessage(f"mine {SECRET}", id="h1"),
        AIMessage([{"type": "text", "text": f"yours {SECRET}"}], id="a1", additional_kwargs={"token": "plain-secret"}),
    ]
    for _ in range(3):
        history.add_messages(messages)
    assert [message.id for message in history.messages] == ["h1", "a1"]
    assert history.messages[0].content == f"mine {MARKED}"
    assert_nowhere(tmp_path)
    assert_nowhere(tmp_path, "plain-secret")


def test_the_langchain_middleware_follows_a_state_with_secrets(tmp_path: Path) -> None:
    pytest.importorskip("langchain.agents")
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    from langchain_mnesis import MnesisMiddleware
    from mnesis.sync import SyncSession
    from tests.support.langchain_fakes import FakeModel, texts_of

    model = FakeModel()
    engine = Engine(tmp_path / "s.db", config=configured(tmp_path))
    agent = create_agent(
        model, [], middleware=[MnesisMiddleware(FakeModel(), engine=engine)], checkpointer=InMemorySaver()
    )
    for number in range(4):
        agent.invoke({"messages": [("user", f"question {number} {SECRET}")]}, {"configurable": {"thread_id": "t"}})
    session = SyncSession.load("t", engine=engine)
    assert len(session.messages()) == 8
    assert SECRET not in str([texts_of(messages) for messages in model.asked])
    assert_nowhere(tmp_path)


async def test_the_llamaindex_memory_stores_no_secret_and_no_message_twice(tmp_path: Path) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.memory.mnesis import MnesisMemory

    from tests.support.llamaindex_fakes import assistant, user

    engine = Engine(tmp_path / "s.db", config=configured(tmp_path))
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine)
    messages = [user(f"mine {SECRET}"), assistant(f"yours {SECRET}")]
    await memory.aput_messages(messages)
    for _ in range(2):
        await memory.aset(messages)
    assert [message.content for message in await memory.aget_all()] == [f"mine {MARKED}", f"yours {MARKED}"]
    assert len(await engine.store.messages("s")) == 2
    assert_nowhere(tmp_path)
    await memory.aclose()
    await engine.close()
