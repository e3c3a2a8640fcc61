"""Looking into stored files: by the model's tools and by the session's own methods, bounded, and only one's own files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnesis import FilePart, FileRefPart, Grant, MnesisSession, RecallConfig, ToolPart
from mnesis.errors import (
    ConfigurationError,
    DamagedFileError,
    FileNotStoredError,
    LLMBadRequestError,
    NotFoundError,
    RecallDeniedError,
)
from mnesis.sync import SyncSession
from mnesis.testing import ScriptedLLM
from mnesis.tokens import TokenEstimator
from tests.files.support import LOG, LOG_ID, MODEL, configured
from tests.session.support import calls, talk

COUNT = TokenEstimator().estimate


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[MnesisSession]:
    config = configured(tmp_path)
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=config, llm=ScriptedLLM("Noted.")
    ) as opened:
        yield opened


@dataclass
class Tools:
    """The file tools of a session, called as a model calls them."""

    session: MnesisSession
    grant: Grant | None = None

    def __post_init__(self) -> None:
        self.specs = {spec.name: spec for spec in self.session.file_tools(self.grant)}

    async def __call__(self, name: str, **arguments: Any) -> str:
        handler = self.specs[name].handler
        assert handler is not None
        return str(await handler(**arguments))


async def with_content(session: MnesisSession, content: bytes | str, name: str = "data.bin") -> str:
    """Put content into the session; its id."""
    ref = await session.files.store_content(content.encode() if isinstance(content, str) else content, name)
    await session.record(["see", ref], "ok")
    return ref.content_id


async def test_file_tools_are_offered_once_the_context_names_a_file(tmp_path: Path) -> None:
    llm = ScriptedLLM("ok")
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=configured(tmp_path), llm=llm
    ) as session:
        await session.send("hello")
        await session.send(["see", FilePart(name="app.log", text=LOG)])
        await session.send("and now?")
        for start in (0, 12):
            await talk(session, 12, first=start)
            await session.compact()
        await session.send("and after folding?")
    offered = [
        {tool["function"]["name"] for tool in request.tools} for request in llm.requests if request.purpose == "turn"
    ]
    files, recall = {"lcm_read_file", "lcm_search_file"}, {"lcm_grep", "lcm_describe", "lcm_expand"}
    assert offered == [set(), files, files, files | recall]


async def test_a_model_reads_and_searches_by_itself(tmp_path: Path) -> None:
    script = [
        calls(("lcm_search_file", {"file_id": LOG_ID[:12], "pattern": "request 2718 "})),
        calls(("lcm_read_file", {"file_id": LOG_ID, "line": 2719, "lines": 1})),
        "It took a while.",
    ]
    llm = ScriptedLLM(script)
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=configured(tmp_path), llm=llm
    ) as session:
        assert (await session.send([FilePart(name="app.log", text=LOG), "How long?"])).text == "It took a while."
    found, read = (request.messages[-1]["content"] for request in llm.requests[1:])
    line = LOG.splitlines()[2718]
    assert f"2719: {line}" in found
    assert line in read
    assert "from line 2,719" in read


@pytest.mark.parametrize("switch", ["off", "refused"])
async def test_a_model_that_takes_no_tools_is_asked_without_them(switch: str, tmp_path: Path) -> None:
    script: list[Any] = ["ok"] if switch == "off" else [LLMBadRequestError("no tools here"), "ok"]
    config = configured(tmp_path)
    if switch == "off":
        config = config.model_copy(update={"recall": RecallConfig(tools=False)})
    llm = ScriptedLLM(script)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=llm) as session:
        assert (await session.send([FilePart(name="app.log", text=LOG)])).text == "ok"
    assert llm.requests[-1].tools in ((), [])


async def test_pages_of_a_tool_go_on_until_the_whole_file_was_read(session: MnesisSession) -> None:
    lines = [f"{number}: " + "word " * (number % 40) for number in range(600)]
    file_id = await with_content(session, "\n".join(lines))
    tools, shown, cursor = Tools(session, Grant(tokens=None, result_tokens=700)), [], None
    while True:
        result = await tools("lcm_read_file", file_id=file_id, cursor=cursor)
        assert COUNT(result, MODEL) <= 700
        body = result.split("\n")[2:-1]
        more = body.pop() if body[-1].startswith("More: cursor=") else ""
        shown += body
        if not more:
            break
        cursor = more.removeprefix("More: cursor=")
    assert shown == lines


@pytest.mark.parametrize("kind", ["one line", "dense", "random", "zeros", "utf-16", "latin-1", "empty"])
async def test_no_content_makes_a_result_larger_than_its_grant(kind: str, session: MnesisSession) -> None:
    content = {
        "one line": b"word " * 60_000,
        "dense": "𝔐ä中".encode() * 50_000,
        "random": os.urandom(300_000),
        "zeros": bytes(300_000),
        "utf-16": b"\xff\xfe" + ("Zeile ä\n" * 20_000).encode("utf-16-le"),
        "latin-1": "Grüße\n".encode("latin-1") * 30_000,
        "empty": b"",
    }[kind]
    file_id = await with_content(session, content)
    tools = Tools(session, Grant(tokens=None, result_tokens=400))
    for result in (
        await tools("lcm_read_file", file_id=file_id),
        await tools("lcm_read_file", file_id=file_id, offset=len(content) // 2),
        await tools("lcm_search_file", file_id=file_id, pattern="."),
    ):
        assert COUNT(result, MODEL) <= 400
        result.encode()


async def test_a_grant_is_drawn_on_by_all_and_ends(session: MnesisSession) -> None:
    file_id = await with_content(session, LOG)
    grant = Grant(tokens=1_500, result_tokens=600)
    tools = Tools(session, grant)
    for _ in range(3):
        await tools("lcm_read_file", file_id=file_id)
    with pytest.raises(RecallDeniedError, match="used up"):
        await tools("lcm_read_file", file_id=file_id)
    assert 0 < grant.spent_tokens <= 1_500
    assert {use.tool for use in grant.uses} == {"lcm_read_file"}


async def test_a_limited_grant_opens_only_the_files_behind_its_summaries(session: MnesisSession) -> None:
    inside = await with_content(session, LOG)
    await talk(session, 12)
    await session.compact()
    outside = await with_content(session, LOG + "more")
    summary = next(each for each in await session.summaries() if inside in each.file_ids)
    tools = Tools(session, Grant(summary_ids=frozenset([summary.id])))
    assert "INFO request" in await tools("lcm_read_file", file_id=inside)
    with pytest.raises(RecallDeniedError, match="does not cover"):
        await tools("lcm_read_file", file_id=outside)
    with pytest.raises(RecallDeniedError, match="does not cover"):
        await tools("lcm_search_file", file_id=outside, pattern="x")


async def test_files_of_other_sessions_cannot_be_read_those_of_parents_can(tmp_path: Path) -> None:
    def opened(name: str, parent: str | None = None, llm: object = None) -> Any:
        return MnesisSession.open(
            model=MODEL, db_path=tmp_path / "a.db", config=configured(tmp_path), session_id=name, parent_id=parent,
            llm=llm or ScriptedLLM("ok"),
        )  # fmt: skip

    llm = ScriptedLLM("ok")
    async with opened("one") as one, opened("stranger") as stranger, opened("child", "one", llm) as child:
        file_id = await with_content(one, LOG)
        for read in (stranger.read_file(file_id), stranger.search_file(file_id, "x"), stranger.file_path(file_id)):
            with pytest.raises(FileNotStoredError, match="stranger"):
                await read
        with pytest.raises(NotFoundError):
            await stranger.describe(file_id)
        assert (await child.read_file(file_id)).text.startswith("2026-01-01")
        assert (await child.describe(file_id)).details["message_id"]
        await child.send(f"Read {file_id}")
        assert [tool["function"]["name"] for tool in llm.requests[0].tools] == ["lcm_read_file", "lcm_search_file"]


async def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(session: MnesisSession) -> None:
    file_id = await with_content(session, LOG)
    assert (await session.read_file(f" {file_id[:8].upper()}… ")).content_id == file_id
    for short in (file_id[:5], "", "zz" * 6, "*"):
        with pytest.raises(FileNotStoredError):
            await session.read_file(short)
    twin = file_id[:10] + "0" * 54
    ref = FileRefPart(content_id=twin, path="twin")
    await session.record([ref], "ok")
    with pytest.raises(ConfigurationError, match="2 files have ids that begin"):
        await session.read_file(file_id[:8])
    with pytest.raises(FileNotStoredError, match=twin):
        await session.read_file(twin)


async def test_a_file_that_is_gone_or_damaged_is_an_error_that_names_it(session: MnesisSession) -> None:
    file_id = await with_content(session, LOG)
    path = await session.file_path(file_id)
    assert path.read_bytes() == LOG.encode()
    path.chmod(0o600)
    path.write_bytes(LOG.encode().replace(b"request 5 ", b"request 6 "))
    with pytest.raises(DamagedFileError, match=str(path)):
        await session.file_path(file_id)
    path.write_bytes(b"short")
    for call in (session.read_file(file_id), session.search_file(file_id, "x"), session.file_path(file_id)):
        with pytest.raises(DamagedFileError, match=file_id):
            await call
    path.unlink()
    for call in (session.read_file(file_id), session.search_file(file_id, "x"), session.file_path(file_id)):
        with pytest.raises(FileNotStoredError, match=f"{file_id}.*{path.parent}"):
            await call


async def test_a_place_that_is_not_in_the_file_is_said_to_be_none(session: MnesisSession) -> None:
    file_id = await with_content(session, LOG)
    binary = await with_content(session, os.urandom(2_000))
    for wrong in (
        {"line": 0},
        {"line": 10**9},
        {"offset": -1},
        {"offset": 10**9},
        {"line": 1, "offset": 1},
        {"line": "x"},
    ):
        with pytest.raises(ConfigurationError):
            await session.read_file(file_id, **wrong)  # type: ignore[arg-type]
    for cursor in ("", "1", "a.b", "1.2.3", "-1.0", "9" * 30 + ".1", "99999999.1"):
        with pytest.raises(ConfigurationError):
            await session.read_file(file_id, cursor=cursor)
    with pytest.raises(ConfigurationError, match="binary"):
        await session.read_file(binary, line=2)
    assert (await session.read_file(file_id, offset=len(LOG))).text == ""


async def test_binary_content_is_shown_in_hex(session: MnesisSession) -> None:
    file_id = await with_content(session, b"\x7fELF\x00\x01\x02\xff" + bytes(100))
    page = await session.read_file(file_id)
    assert page.is_binary
    assert page.text.startswith("0000000000  7f 45 4c 46 00 01 02 ff")
    assert ".ELF...." in page.text
    assert "binary, in hex" in await Tools(session)("lcm_read_file", file_id=file_id)


async def test_a_search_finds_each_line_and_continues_from_its_cursor(
    session: MnesisSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnesis.files.grep.BLOCK_BYTES", 1_000)
    lines = [f"line {number} {'needle needle' if number % 7 == 0 else 'hay'} ä𝄞" for number in range(1, 1_000)]
    expected = [(number, lines[number - 1]) for number in range(7, 1_000, 7)]
    for encoded in ("\n".join(lines).encode(), b"\xff\xfe" + "\n".join(lines).encode("utf-16-le")):
        file_id, found, cursor = await with_content(session, encoded), [], None
        while True:
            page = await session.search_file(file_id, "NEEDLE", ignore_case=True, limit=10, cursor=cursor)
            found += page.matches
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [(match.line, match.text) for match in found] == expected
        one = await session.read_file(file_id, offset=found[20].offset)
        assert one.text.startswith("needle")
        after = await session.search_file(file_id, "NEEDLE", ignore_case=True, limit=1, cursor=found[4].next_cursor)
        assert after.matches == (found[5],)
        with pytest.raises(ConfigurationError, match="not a cursor of this search"):
            await session.search_file(file_id, "other", cursor=found[4].next_cursor)


async def test_a_slow_pattern_is_stopped_and_its_line_skipped(session: MnesisSession) -> None:
    file_id = await with_content(session, "a" * 5_000 + "!\n" + "plain\n" * 200_000 + "aX\n")
    page = await session.search_file(file_id, r"(a+)+X", timeout_seconds=0.2)
    assert page.timed_out
    assert page.next_cursor is not None
    rest = await session.search_file(file_id, r"(a+)+X", timeout_seconds=5, cursor=page.next_cursor)
    assert [match.text for match in rest.matches] == ["aX"]
    for wrong in ("(", "(?R)", "a" * 2_000, "((a{1000}){1000}){1000}"):
        with pytest.raises(ConfigurationError):
            await session.search_file(file_id, wrong)
    with pytest.raises(ConfigurationError):
        await session.search_file(file_id, "a", limit=0)


async def test_searching_a_long_file_needs_little_memory(session: MnesisSession) -> None:
    import tracemalloc

    file_id = await with_content(session, b"word " * 6_000_000 + b"needle " + b"word " * 100)
    tracemalloc.start()
    try:
        page = await session.search_file(file_id, "needle", timeout_seconds=60)
        tail = await session.read_file(file_id, offset=30_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [match.offset for match in page.matches] == [30_000_000]
    assert len(page.matches[0].text) <= 300
    assert tail.text.startswith("needle word")
    assert peak < 20_000_000


async def test_describing_a_file_says_what_can_be_done_with_it(session: MnesisSession) -> None:
    file_id = await with_content(session, LOG, "app.log")
    tools = {spec.name: spec for spec in session.recall_tools()}
    assert tools["lcm_describe"].handler is not None
    said = await tools["lcm_describe"].handler(file_id[:12])
    for expected in (file_id, "app.log", "lcm_read_file", "lcm_search_file", "lcm_grep does not"):
        assert expected in said
    described = await session.describe(file_id)
    assert (described.kind, described.details["path"]) == ("file", "app.log")


async def test_an_output_kept_outside_is_read_like_a_file(session: MnesisSession) -> None:
    await session.record("Look", [ToolPart(tool_name="tail", tool_call_id="c", output=LOG)])
    assert (await session.read_file(LOG_ID, line=3_000)).text == LOG.splitlines(keepends=True)[2_999]


def test_the_synchronous_session_reads_and_searches_too(tmp_path: Path) -> None:
    with SyncSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=configured(tmp_path), llm=ScriptedLLM("ok")
    ) as session:
        session.send([FilePart(name="app.log", text=LOG)])
        assert session.read_file(LOG_ID, line=2, max_lines=1).text == LOG.splitlines(keepends=True)[1]
        assert session.search_file(LOG_ID, "request 77 ").matches[0].line == 78
        assert session.file_path(LOG_ID).read_text() == LOG
        assert len(session.file_tools()) == 2


async def test_all_tools_of_files_are_read_only(session: MnesisSession) -> None:
    assert all(spec.read_only for spec in session.file_tools())


async def test_the_end_of_a_line_is_found_however_it_is_written(session: MnesisSession) -> None:
    lines = ["first", "", "second ä", "third"]
    for end in ("\n", "\r\n"):
        for codec in ("utf-8", "utf-16"):
            file_id = await with_content(session, (end.join(lines * 300) + end).encode(codec))
            for number, line in ((1, "first"), (3, "second ä"), (4, "third")):
                page = await session.search_file(file_id, f"^{line}$", limit=2)
                assert [(match.line, match.text) for match in page.matches] == [(number, line), (number + 4, line)]
                at = await session.read_file(file_id, offset=page.matches[1].offset, max_lines=1)
                assert at.text == line + end


async def test_a_child_asks_once_whether_its_parents_name_files(
    session: MnesisSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_content(session, "line\n" * 2_000)
    child = await MnesisSession.create(
        model=MODEL, engine=session.engine, config=configured(tmp_path), parent_id=session.id
    )
    await child.window()
    asked: list[object] = []

    async def counted(**which: Any) -> list[Any]:
        asked.append(which)
        return []

    monkeypatch.setattr(child.engine.store, "file_references", counted)
    for _ in range(3):
        await child.window()
    await child.close()
    assert asked == []
