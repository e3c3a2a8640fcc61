"""Regular expressions over the log: everything is found, nothing hangs."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import ConfigurationError, MnesisSession
from mnesis.errors import SummaryNotFoundError
from mnesis.models.message import Message, ToolResultPart, text_message
from tests.session.support import MODEL, small, talk


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def test_every_match_is_found_in_order_grouped_by_what_covers_it(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, config=small(auto=False), llm=lambda m: "short") as session:
        await talk(session, 12)
        before = await session.grep(r"the code of drawer (\d+)", limit=1_000)
        await session.compact()
        after = await session.grep(r"the code of drawer (\d+)", limit=1_000)
        assert before.matches == after.matches
        assert [match.seq for match in after.matches] == list(range(1, 25, 2))
        assert [group.summary_id is None for group in before.groups] == [True]
        assert [group.summary_id is None for group in after.groups] == [False, True]
        (summary,) = await session.summaries()
        inside = await session.grep("drawer", summary.id, limit=1_000)
        assert {match.seq for match in inside.matches} == set(range(summary.first_seq, summary.last_seq + 1, 2))
        match = after.matches[3]
        original = (await session.message(match.message_id)).text_content()
        assert original[match.start : match.end] == match.text == "the code of drawer 3"
        assert match.text in match.line


async def test_pages_join_to_the_whole_also_inside_one_message(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.append([text_message("user", "x1 x2 x3 x4 x5"), text_message("assistant", "x6 x7")])
        found, cursor = [], None
        while True:
            page = await session.grep(r"x\d", limit=3, cursor=cursor)
            found += [match.text for match in page.matches]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [f"x{n}" for n in range(1, 8)]
        with pytest.raises(ConfigurationError, match="cursor"):
            await session.grep("other", cursor=(await session.grep(r"x\d", limit=1)).next_cursor)


async def test_tool_outputs_are_searched_and_case_can_be_ignored(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        result = ToolResultPart(tool_call_id="c", tool_name="read", output="line one\nFATAL: disk\nline three")
        await session.append([Message(id="m", role="tool", parts=(result,))])
        assert (await session.grep("fatal")).matches == ()
        (match,) = (await session.grep("^fatal", ignore_case=True)).matches
        assert match.line == "FATAL: disk"


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*)*b", r"(x+x+)+y"])
async def test_a_pattern_made_to_blow_up_ends_in_time_and_holds_nobody_up(db: Path, pattern: str) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.append([text_message("user", "a" * 4_000 + "x" * 4_000 + "!"), text_message("user", "the end")])
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        beside = asyncio.create_task(tick())
        started = time.monotonic()
        page = await session.grep(pattern, timeout_seconds=0.3)
        assert time.monotonic() - started < 30
        beside.cancel()
        if page.timed_out:
            assert ticks > 0
            assert page.next_cursor is not None
            again = await session.grep(pattern, cursor=page.next_cursor)
            assert not again.timed_out


async def test_the_time_limit_does_not_depend_on_processor_time(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`regex` measures its time limit with clock(3), the processor time of the process (_regex.c)."""
    started, released = threading.Event(), threading.Event()

    class StarvedPattern:
        """A pattern that gets no processor time once its first moment is over."""

        def finditer(self, text: str, **options: Any) -> Iterator[Any]:
            if not started.is_set():
                started.set()
                yield re.search("a", text)
                raise TimeoutError
            yield re.search("a", text)
            released.wait()

    monkeypatch.setattr("regex.compile", lambda pattern, flags: StarvedPattern())
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.append([text_message("user", "aaaa")])
        page = await session.grep("a", timeout_seconds=0.2)
        released.set()
    assert page.timed_out
    assert len(page.matches) == 1
    assert page.next_cursor is not None


async def test_a_slow_text_is_searched_once_and_completely(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matches of the first moment are not repeated by the thread that continues."""
    monkeypatch.setattr("mnesis.recall.regex.MOMENT_SECONDS", 1e-9)
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        text = "".join(f"word{n} " for n in range(900))
        await session.append([text_message("user", text)])
        page = await session.grep(r"word\d+", limit=1_000, timeout_seconds=60)
    assert [match.text for match in page.matches] == text.split()


@pytest.mark.parametrize("pattern", ["", "(", "[", "*", "(?P<x", "a{2,1}", "x" * 3_000, "(?<=a*)\\"])
async def test_a_pattern_that_cannot_be_read_is_refused(db: Path, pattern: str) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        with pytest.raises(ConfigurationError, match="pattern"):
            await session.grep(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:(?:(?:a{1000}){1000}){1000}){1000}",
        "(?:(?:(?:ab){1000}x){1000}y){1000}",
        "(?:" + "[ab]" * 200 + "){10000}",
        "(?x)(?:a{1000} # (\n){1000} # )\n{1000}",
        "a{" + "9" * 900 + "}",
        "(?R)?a|b",
        "(a)(?1)",
        "(?P<x>a)(?&x)",
        "(?P<x>a)(?P>x)",
        r"a\\(?0)",
    ],
)
async def test_a_pattern_that_no_time_limit_could_hold_is_refused(db: Path, pattern: str) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        with pytest.raises(ConfigurationError, match=r"repeats too often|is recursive"):
            await session.grep(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\(?0\d+",
        r"(?:[0-9a-f]{4}:){7}[0-9a-f]{4}",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        r"(?x) \d{4} - \d{2} - \d{2}",
        "a{5000}",
        "[ab]{1,100000}",
        "x" * 1_000,
    ],
)
async def test_patterns_as_people_write_them_are_not_taken_for_such(db: Path, pattern: str) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.append([text_message("user", "nothing of that")])
        assert not (await session.grep(pattern)).timed_out


async def test_bad_arguments_are_refused(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        for limit in (0, -1):
            with pytest.raises(ConfigurationError, match="limit"):
                await session.grep("x", limit=limit)
        for seconds in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ConfigurationError, match="timeout_seconds"):
                await session.grep("x", timeout_seconds=seconds)
        for cursor in ("", "1.2", "a.b.c", "1.1." + "0" * 12):
            with pytest.raises(ConfigurationError, match="cursor"):
                await session.grep("x", cursor=cursor)
        with pytest.raises(ConfigurationError, match="pattern"):
            await session.grep(1)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(SummaryNotFoundError):
            await session.grep("x", "sum_of_nobody")
        assert (await session.grep("a*", limit=10**9)).matches == ()
