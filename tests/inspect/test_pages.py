"""Every page shows what is stored, escaped, and links to what belongs to it."""

import asyncio
import html
import json
import re
from pathlib import Path

import httpx
import pytest

from mnesis.inspect.paths import encode_id, message_path, session_path
from mnesis.store.sqlite import SqliteStore
from tests.support.inspected import CANARY, HOSTILE_ID

TABS = ("", "/log", "/context", "/dag", "/usage", "/tools", "/files", "/request")


def links(text: str) -> set[str]:
    return {html.unescape(link) for link in re.findall(r'(?:href|data-src)="(/[^"]*)"', text)}


def read(client: httpx.Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.text


def test_every_link_of_every_page_leads_somewhere(client: httpx.Client) -> None:
    seen, waiting = set(), ["/", "/runs", "/search?q=valve+leaked", f"/s/{encode_id(HOSTILE_ID)}"]
    while waiting and len(seen) < 150:
        path = waiting.pop(0).partition("#")[0]
        if path not in seen:
            seen.add(path)
            waiting += sorted(links(read(client, path)))
    assert len(seen) > 60


@pytest.mark.parametrize("session_id", ["main", HOSTILE_ID])
@pytest.mark.parametrize("tab", TABS)
def test_hostile_content_is_only_text(client: httpx.Client, session_id: str, tab: str) -> None:
    text = read(client, session_path(session_id) + tab)
    assert "<script>" not in text
    assert 'onerror="' not in text
    assert "<img src=x" not in text
    assert not re.search(r'(?:href|src)="(?:javascript|data:text|https?:)', text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_sessions_are_listed_with_sub_agents_below(client: httpx.Client) -> None:
    text = read(client, "/")
    assert text.index(">main<") < text.index("sub-agent of the session above") < text.index(">child<")
    assert "Question 0: which valve leaked" in text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("q=valve+leaked", {"main"}),
        ("q=CHILD&kind=flat", {"child"}),
        ("agent=research&kind=flat", {"child"}),
        ("kind=parents", {"main", "child"}),
        ("kind=children", {"child"}),
        ("model=gpt-4o&kind=flat", {"main", "child"}),
        ("period=1h&kind=flat", {"main", "child", HOSTILE_ID}),
        ("q=nothing+like+this", set()),
    ],
)
def test_sessions_are_filtered(client: httpx.Client, query: str, shown: set[str]) -> None:
    found = links(read(client, f"/?{query}"))
    assert {each for each in ("main", "child", HOSTILE_ID) if session_path(each) in found} == shown


def test_the_overview_names_figures_interruptions_and_children(client: httpx.Client) -> None:
    text = read(client, "/s/main")
    assert "LLMTimeoutError" in text
    assert "half an ans" in text
    assert session_path("child") in text
    assert "dashed line: soft threshold" in text
    assert session_path("main") in read(client, "/s/child")


def test_the_log_is_read_in_chunks_from_both_ends(client: httpx.Client) -> None:
    newest = read(client, "/s/main/log")
    end = int(re.search(r'data-end="(\d+)"', newest)[1])
    first = read(client, "/s/main/log?at=1")
    assert 'id="m-1"' in first
    assert f'id="m-{end}"' in newest
    chunk = read(client, f"/s/main/log/chunk?before={end}")
    assert f'id="m-{end - 1}"' in chunk
    assert f'id="m-{end}"' not in chunk
    assert "<html" not in chunk
    assert read(client, f"/s/main/log/chunk?after={end}").count("<article") == 0


def test_a_message_is_shown_whole_and_as_json(client: httpx.Client, database: Path) -> None:
    page = read(client, message_path("main", f"m-{HOSTILE_ID}"))
    assert CANARY in html.unescape(page)
    assert "no such day" in page
    text = read(client, message_path("main", "parts"))
    assert text.count('<img src="data:image/png;base64,') == 1
    assert "127.0.0.1:9/tracking.png</code> (not loaded)" in text


def test_the_context_shows_originals_next_to_what_is_sent(client: httpx.Client) -> None:
    text = read(client, "/s/main/context")
    assert "What the model would receive" in text
    assert "The originals behind it" in text
    (behind,) = {link for link in links(text) if link.endswith("/originals")}
    originals = read(client, behind)
    assert "Question 0: which valve leaked" in originals
    assert "The gate code is 4471." in text


def test_the_request_is_what_the_session_would_send(client: httpx.Client, database: Path) -> None:
    from mnesis import Engine, MnesisSession
    from tests.support.inspected import config_of

    async def expected() -> list[dict[str, object]]:
        async with (
            Engine(database, config=config_of(database.parent)) as engine,
            await MnesisSession.load("main", engine=engine) as session,
        ):
            return await session.context_for_next_turn()

    text = re.search(r"<div data-fragment><pre[^>]*>(.*?)</pre>", read(client, "/s/main/request"), re.DOTALL)[1]
    shown = json.loads(html.unescape(text))
    assert shown[0]["role"] == "system"
    # Unsafe characters are replaced on the page, so roles and sizes are compared instead of texts.
    wanted = asyncio.run(expected())
    assert [(m["role"], len(str(m["content"]))) for m in shown[1:]] == [
        (m["role"], len(str(m["content"]))) for m in wanted
    ]


def test_summaries_lead_down_to_their_originals(client: httpx.Client) -> None:
    text = read(client, "/s/main/dag")
    (summary,) = {link for link in links(text) if "/summary/" in link and not link.endswith("/originals")}
    page = read(client, summary)
    assert "in the context" in page
    assert "Question 1: which valve leaked" in page


def test_usage_shows_turns_compactions_and_cache_hits(client: httpx.Client) -> None:
    text = read(client, "/s/main/usage")
    assert "12 turns" in text or "turn 1" in text
    assert "1 compactions" in text
    assert "#24: 1,350 tokens sent (1,100 from the cache" in text
    assert "<polyline" in text


def test_tool_calls_are_paired_with_results_and_filtered(client: httpx.Client) -> None:
    text = read(client, "/s/main/tools")
    assert "shell" in text
    assert "no such day" in text
    assert "Result in" in text
    assert "read_log" not in read(client, "/s/main/tools?tool=shell")
    assert "shell" not in read(client, "/s/main/tools?state=failed").partition('id="tools"')[2]


def test_stored_files_are_listed_and_read_in_pages(client: httpx.Client) -> None:
    text = read(client, "/s/main/files")
    assert "report.txt" in text
    (file,) = {link for link in links(text) if re.fullmatch(r"/s/main/files/\w+", link)}
    assert "pressure log line" in read(client, f"{file}?line=3")


def test_map_runs_show_progress_and_items(client: httpx.Client) -> None:
    assert '<progress max="4" value="2"' in read(client, "/runs")
    text = read(client, "/runs/run-1?state=failed")
    assert "Item 1" in text
    assert "broken" in text
    assert "Item 0" not in text


def test_search_says_why_a_hit_has_its_rank(client: httpx.Client) -> None:
    text = read(client, "/search?q=which+valve+leaked&session=main")
    assert "<mark>valve</mark>" in text.lower()
    assert re.search(r"Score [\d.]+ \(100% of the best here\): .*“valve” × \d", text)
    assert "folded into a summary" in text
    literal = read(client, "/search?q=Valve+3+leaked&mode=substring&session=main")
    assert "contains the text literally; newest first" in literal
    assert "is not valid" in read(client, "/search?q=x&cursor=bad") or "notice bad" in read(
        client, "/search?q=x&cursor=bad"
    )


async def test_looking_changes_nothing(client: httpx.Client, database: Path) -> None:
    async def state() -> object:
        store = SqliteStore(database)
        await store.open()
        try:
            return await store.sessions(), await store.last_change(), await store.check()
        finally:
            await store.close()

    before = await state()
    for tab in TABS:
        await asyncio.to_thread(read, client, f"/s/main{tab}")
    assert await state() == before
