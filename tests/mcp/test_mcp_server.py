"""The MCP server, used by the official client over both transports."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mnesis import Engine, MnesisSession
from mnesis.mcp import Memory, Scope, create_server
from mnesis.mcp.server import session_uri
from mnesis.recall.grants import Grant
from tests.support.warm_python import warm_command

TOKEN = "token-of-the-tests"
READING = {"search", "sessions", "lcm_grep", "lcm_describe", "lcm_expand"}


async def fill(path: Path) -> None:
    async with Engine(path) as engine:
        for session_id in ("work/plan", "home/garden"):
            async with MnesisSession.create(model=None, session_id=session_id, engine=engine) as session:
                await session.record(f"Where is the key of {session_id}?", "Under the blue pot.")
                for number in range(6):
                    await session.record(f"Question {number} about frogs?", "The frogs are well. " * 30)
                await session.compact()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path / "a.db"))
    return tmp_path / "a.db"


def command(database: Path, *options: str) -> list[str]:
    return warm_command("-m", "mnesis.cli", "mcp", "--db", str(database), *options, has_mnesis=True)


@asynccontextmanager
async def over_stdio(database: Path, *options: str) -> AsyncIterator[Client]:
    executable, *arguments = command(database, *options)
    environment = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]}
    server = StdioServerParameters(command=executable, args=arguments, env=environment)
    async with Client(server) as client:
        yield client


@asynccontextmanager
async def over_http(database: Path, *options: str) -> AsyncIterator[Client]:
    async with serving(database, *options) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=120) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client


@asynccontextmanager
async def serving(database: Path, *options: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *command(database, "--transport", "http", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "MNESIS_MCP_TOKEN": TOKEN},
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def in_process(database: Path, scope: Scope | None = None, **options: Any) -> AsyncIterator[Client]:
    async with Engine(database) as engine, Client(create_server(Memory(engine, scope or Scope(), **options))) as client:
        yield client


async def call(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    text: str = result.content[0].text  # type: ignore[union-attr]  # every tool returns a text
    return f"ERROR {text}" if result.is_error else text


@pytest.fixture(params=[over_stdio, over_http], ids=["stdio", "http"])
def connect(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_an_official_client_searches_and_reads_over_each_transport(connect: Any, database: Path) -> None:
    async with connect(database) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == READING
        assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
        listed = await call(client, "sessions")
        assert "[work/plan · 14 messages" in listed
        assert "Where is the key of work/plan?" in listed
        hits = await call(client, "search", query="where is the key", session_id="work/plan", limit=2)
        assert "Where is the key of work/plan?" in hits
        summary_id = hits.split("under ")[1].split("]")[0]
        assert "Under the blue pot." in await call(client, "lcm_expand", session_id="work/plan", id=summary_id)
        assert summary_id in await call(client, "lcm_describe", session_id="work/plan", id=summary_id)
        found = await call(client, "lcm_grep", session_id="work/plan", pattern="blue p.t")
        message_id = found.split("[msg_")[1].split(" ")[0]
        resource = await client.read_resource(session_uri("work/plan", "messages", f"msg_{message_id}"))
        assert "Under the blue pot." in resource.contents[0].text
        assert (await client.call_tool("record", {"session_id": "work/plan"})).is_error


async def test_sessions_messages_and_summaries_are_resources(database: Path) -> None:
    async with in_process(database) as client:
        assert [str(each.uri) for each in (await client.list_resources()).resources] == ["mnesis://sessions"]
        templates = {each.uri_template for each in (await client.list_resource_templates()).resource_templates}
        assert templates == {
            "mnesis://sessions/{session_id}",
            "mnesis://sessions/{session_id}/messages/{message_id}",
            "mnesis://sessions/{session_id}/summaries/{summary_id}",
        }
        facts = (await client.read_resource(session_uri("home/garden"))).contents[0].text  # type: ignore[union-attr]
        summary_id = facts.split('"summaries": [\n  "')[1].split('"')[0]
        summary = await client.read_resource(session_uri("home/garden", "summaries", summary_id))
        assert "frogs" in summary.contents[0].text  # type: ignore[union-attr]
        assert "work/plan" in (await client.read_resource("mnesis://sessions")).contents[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("scope", [Scope(prefix="work/"), Scope(frozenset({"work/plan"}))], ids=["prefix", "ids"])
async def test_a_session_outside_the_scope_does_not_exist(database: Path, scope: Scope) -> None:
    async with in_process(database, scope, allows_recording=True) as client:
        assert "home/garden" not in await call(client, "sessions")
        hits = await call(client, "search", query="where is the key", limit=50)
        assert "work/plan" in hits
        assert "home/garden" not in hits
        for name, arguments in (
            ("search", {"query": "key", "session_id": "home/garden"}),
            ("lcm_grep", {"session_id": "home/garden", "pattern": "key"}),
            ("lcm_describe", {"session_id": "home/garden", "id": "sum_x"}),
            ("lcm_expand", {"session_id": "home/garden", "id": "sum_x"}),
            ("record", {"session_id": "home/garden", "user_message": "a", "assistant_response": "b"}),
        ):
            refused = await call(client, name, **arguments)
            assert refused.startswith("ERROR")
            assert "blue pot" not in refused
        with pytest.raises(Exception, match="not found"):
            await client.read_resource(session_uri("home/garden"))


async def test_results_are_bounded_by_the_grant(database: Path) -> None:
    grant = Grant(tokens=900, result_tokens=300, depth=None)
    async with in_process(database, grant=grant) as client:
        answers = [await call(client, "lcm_grep", session_id="work/plan", pattern="frogs") for _ in range(12)]
        answers.append(await call(client, "search", query="frogs", limit=50))
    assert answers[0].startswith("[From the log")
    assert all("are used up" in answer for answer in answers[-2:])
    assert max(use.tokens for use in grant.uses) <= 300
    assert grant.spent_tokens <= 900


async def test_nothing_is_written_unless_recording_is_allowed(database: Path) -> None:
    async with Engine(database) as engine:
        cursor = await engine.cursor()
    async with over_stdio(database) as client:
        await call(client, "search", query="frogs")
        await call(client, "sessions")
    async with Engine(database) as engine:
        assert await engine.cursor() == cursor
    async with over_stdio(database, "--allow-record", "--prefix", "notes/") as client:
        assert "record" in {tool.name for tool in (await client.list_tools()).tools}
        stored = await call(client, "record", session_id="notes/1", user_message="hello", assistant_response="noted")
        assert stored.startswith("Stored as msg_")
    async with MnesisSession.load("notes/1", db_path=database) as session:
        assert [message.text_content() for message in await session.messages()] == ["hello", "noted"]


async def test_http_answers_only_clients_with_the_token(database: Path) -> None:
    async with serving(database) as url, httpx2.AsyncClient(timeout=120) as http:
        assert url.startswith("http://127.0.0.1:")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert (await http.post(url, json={}, headers=headers)).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
        assert (await http.post(url, json={}, headers=headers)).status_code == 403


async def test_mistakes_are_reported_to_the_client_and_do_not_end_the_server(database: Path) -> None:
    async with in_process(database) as client:
        assert "Session not found: 'nope'" in await call(client, "lcm_grep", session_id="nope", pattern="x")
        assert "'('" in await call(client, "lcm_grep", session_id="work/plan", pattern="(")
        assert "limit must be an integer" in await call(client, "search", query="x", limit=1_000)
        assert "work/plan" in await call(client, "sessions", contains="PLAN")


def test_a_missing_database_is_a_short_error(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "none.db"), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no database at" in done.stderr
    assert "Traceback" not in done.stderr
