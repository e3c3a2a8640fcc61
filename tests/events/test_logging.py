"""What the log holds: an event per record, fields for programs, no content and no keys."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mnesis import Engine, LLMError, MnesisEvent, MnesisSession
from mnesis.events.activity import DEBUG_EVENTS
from mnesis.testing import ScriptedLLM
from tests.support.openai_server import OpenAIServer, Reply, error

ROOT = Path(__file__).parents[2]
WRITTEN = "the wombat sleeps at noon"
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"


def texts(records: list[logging.LogRecord]) -> str:
    formatter = logging.Formatter()
    return "\n".join(f"{formatter.format(record)} {getattr(record, 'fields', '')}" for record in records)


def fail(path: str) -> str:
    """Fail with the content of the conversation."""
    raise ValueError(f"{WRITTEN}: {path}, {KEY}")


async def misbehave(event: MnesisEvent, payload: object) -> None:
    raise RuntimeError(f"{WRITTEN}, {KEY}")


async def talk(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run turns in which tools, handlers, the provider and the summariser fail, each with content and a key."""
    call = ("call_1", "fail", f'{{"path": "{WRITTEN}"}}')
    rejection = error(400, f"cannot accept: {WRITTEN} {KEY}")
    with OpenAIServer(Reply((), calls=[call], finish_reason="tool_calls"), Reply((WRITTEN,)), rejection) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        config = {
            "session": {"llm_options": {"api_base": server.url}},
            "model_overrides": {"context_limit": 30_000, "max_output_tokens": 500},
        }
        async with MnesisSession.open(
            model="openai/test-model", db_path=db, config=config, session_id="ada"
        ) as session:
            session.subscribe(MnesisEvent.MESSAGE_CREATED, misbehave)
            await session.send(WRITTEN, tools=[fail])
            with pytest.raises(LLMError):
                await session.send(WRITTEN)
            for _ in range(4):
                await session.record(f"{WRITTEN} {KEY}", WRITTEN * 50)
            await session.compact()
            await session.search(WRITTEN)


async def test_no_record_holds_content_or_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "mnesis")
    await talk(tmp_path / "a.db", monkeypatch)
    logged = texts([record for record in caplog.records if record.name.startswith("mnesis")])
    assert "wombat" not in logged
    assert KEY not in logged
    for part in ("tool fail failed: ValueError", "RuntimeError", "in misbehave", "compaction.completed"):
        assert part in logged, part


async def test_content_is_logged_only_when_allowed_and_keys_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNESIS_LOG_CONTENT", "1")
    caplog.set_level(logging.DEBUG, "mnesis")
    await talk(tmp_path / "a.db", monkeypatch)
    logged = texts([record for record in caplog.records if record.name.startswith("mnesis")])
    assert f"ValueError: {WRITTEN}" in logged
    assert KEY not in logged


async def test_each_event_is_a_record_with_fields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mnesis.activity")
    async with (
        Engine(tmp_path / "a.db", llm=ScriptedLLM("hello")) as engine,
        MnesisSession.create(model="openai/gpt-4o", session_id="ada", engine=engine) as session,
    ):
        await session.send("hi")
    records = [record for record in caplog.records if record.name == "mnesis.activity"]
    events = [record.event for record in records]  # type: ignore[attr-defined]  # set by the logger
    assert events[0] == "session.created"
    assert events[-1] == "session.closed"
    assert events.count("message.created") == 2
    assert {record.session_id for record in records} == {"ada"}  # type: ignore[attr-defined]  # as above
    reply = next(record for record in records if getattr(record, "fields", {}).get("role") == "assistant")
    assert reply.fields["seq"] == 2  # type: ignore[attr-defined]  # as above
    assert reply.levelno == logging.DEBUG


async def test_nothing_is_logged_below_the_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mnesis")
    async with MnesisSession.create(model=None, db_path=tmp_path / "a.db") as session:
        await session.record("a", "b")
    assert {record.event for record in caplog.records if record.name == "mnesis.activity"} == {  # type: ignore[attr-defined]
        "session.created",
        "session.closed",
    }


def test_the_page_lists_the_events_of_the_debug_level() -> None:
    assert {event.value for event in MnesisEvent} >= DEBUG_EVENTS
    page = (ROOT / "docs" / "logging.md").read_text("utf-8")
    (sentence,) = [text for text in page.split("\n\n") if "are logged as `DEBUG`" in text]
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", sentence)) == DEBUG_EVENTS
