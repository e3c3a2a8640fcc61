"""Exports for reading elsewhere hold every message, run nothing and keep keys to themselves."""

from __future__ import annotations

import asyncio
import json
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession
from mnesis.formats.openai import chat_messages
from mnesis.llm.no_model import NoModel
from mnesis.models.message import FileRefPart, Message, ReasoningPart, TextPart
from tests.cli.conftest import Run, small_window, tool_call

ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "article", "pre", "details", "summary"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)> \x1b[2J \u202e ``` ````"
KEY = "sk-proj-0123456789abcdef"


class Tags(HTMLParser):
    """Everything in a page that is not text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    async def make() -> None:
        async with (
            Engine(tmp_path / "t.db", config=small_window(), llm=NoModel()) as engine,
            MnesisSession.open(
                model="demo/none", session_id="talk", system_prompt=f"The key is {KEY}", engine=engine
            ) as session,
        ):
            said = [
                TextPart(text="Fine."),
                ReasoningPart(text="hm"),
                tool_call("read", f"password={KEY} {ATTACK}", "c1"),
            ]
            await session.record(f"{ATTACK} my key is {KEY}", said)
            ref = FileRefPart(content_id="ab" * 32, path="<b>a.txt", file_type="text", token_count=9)
            await session.append([Message(id="m", role="user", parts=(ref,))])
            await session.record("later", "more")
            await session.record("latest", "most")
            await session.compact()

    asyncio.run(make())
    return tmp_path / "t.db"


def test_html_holds_everything_and_nothing_that_loads_or_runs(run: Run, talk: Path) -> None:
    page = run("export", "talk", "--format", "html", "--db", talk).stdout
    tags = Tags()
    tags.feed(page)
    assert tags.found <= ALLOWED
    assert tags.attributes <= {"lang", "charset", "http-equiv", "content"}
    assert "<script>alert(1)</script>" in tags.text
    assert "latest" in tags.text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_markdown_fences_what_was_not_said(run: Run, talk: Path) -> None:
    text = run("export", "talk", "--format", "md", "--db", talk).stdout
    assert text.startswith("# talk\n")
    assert "## #1 user" in text
    assert "result of read:\n\n`````text\n" in text
    assert "\x1b" not in text


def test_openai_gives_the_whole_log_as_messages(run: Run, talk: Path) -> None:
    async def log() -> list[Message]:
        async with Engine(talk) as engine:
            return await engine.store.messages("talk")

    shown = json.loads(run("export", "talk", "--format", "openai", "--db", talk).stdout)
    assert shown == chat_messages(asyncio.run(log()), f"The key is {KEY}")


@pytest.mark.parametrize("form", ["jsonl", "openai", "md", "html"])
def test_what_looks_like_a_key_is_blanked_when_asked(run: Run, talk: Path, tmp_path: Path, form: str) -> None:
    plain = run("export", "talk", "--format", form, "--db", talk).stdout
    safe = run("export", "talk", "--format", form, "--redact", "--db", talk).stdout
    assert KEY in plain
    assert KEY not in safe
    assert "[redacted: api-key]" in safe
    if form == "jsonl":
        (tmp_path / "safe.jsonl").write_text(safe)
        assert run("import", tmp_path / "safe.jsonl", "--as", "safe", "--db", talk).exit_code == 0


@pytest.mark.parametrize("form", ["openai", "md", "html"])
def test_a_file_of_any_format_is_private_and_replaces_nothing(run: Run, talk: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / f"talk.{form}"
    arguments = ("export", "talk", "--format", form, "-o", target, "--db", talk)
    assert run(*arguments).exit_code == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert run(*arguments).exit_code == 2
