"""The configurations of clients on the page about MCP start a server that the official client can use."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from mnesis import MnesisSession
from tests.docs.pages import DOCS, blocks
from tests.support.warm_python import warm_command

PAGE = DOCS / "mcp.md"
SHOWN_DATABASE = "/home/ada/.mnesis/sessions.db"


def configured_commands() -> list[list[str]]:
    """Return the commands of all snippets, with the database that they name."""
    commands = []
    for block in blocks(PAGE):
        if block.language == "json":
            servers = json.loads(block.text)
            commands += [
                [each["command"], *each["args"]] for each in (servers.get("mcpServers") or servers["servers"]).values()
            ]
        elif block.language == "toml":
            commands += [[each["command"], *each["args"]] for each in tomllib.loads(block.text)["mcp_servers"].values()]
        elif match := re.search(r"^claude mcp add \w+ -- (.*)$", block.text, re.M):
            commands.append([word.replace("~", "/home/ada") for word in shlex.split(match[1])])
    return commands


async def test_each_configured_command_serves_the_official_client(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with MnesisSession.create(model=None, session_id="ada", db_path=path) as session:
        await session.record("Where is the key?", "Under the pot.")
    commands = configured_commands()
    assert len(commands) == 4
    assert {tuple(command) for command in commands} == {("mnesis", "mcp", "--db", SHOWN_DATABASE)}
    _, *arguments = commands[0]
    module = ["-m", "mnesis.cli", *(str(path) if each == SHOWN_DATABASE else each for each in arguments)]
    executable, *rest = warm_command(*module, has_mnesis=True)
    async with Client(StdioServerParameters(command=executable, args=rest)) as client:
        result = await client.call_tool("search", {"query": "key"})
        assert "Under the pot" in result.content[0].text or "Where is the key" in result.content[0].text  # type: ignore[union-attr]


def test_the_address_of_the_running_server_is_the_one_that_is_served() -> None:
    text = PAGE.read_text("utf-8")
    source = (Path(__file__).parents[2] / "mnesis/mcp/server.py").read_text("utf-8")
    path = re.search(r"http://127\.0\.0\.1:8765(/\S*)", text)
    assert path is not None
    assert f"{path[1]}" in source


@pytest.mark.parametrize("name", ["Claude Code", "Claude Desktop", "Cursor", "Gemini CLI", "VS Code", "Codex CLI"])
def test_common_clients_have_a_snippet(name: str) -> None:
    assert name in PAGE.read_text("utf-8")
