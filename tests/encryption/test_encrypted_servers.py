"""The inspector, the MCP server and followers work on encrypted databases, and refuse them without the key."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from mnesis import Engine, MnesisEvent, MnesisSession
from mnesis.models.message import FilePart
from tests.support.encrypted import KEY, encrypted_config, find_on_disk
from tests.support.warm_python import run_python, warm_command

CANARY = "Zirkuspferd"
WRITER = """
import asyncio, sys
from pathlib import Path
from mnesis import MnesisSession
from tests.support.encrypted import encrypted_config
async def main(directory):
    place = {"db_path": directory / "s.db", "config": encrypted_config(directory)}
    async with MnesisSession.open(model=None, session_id="ada", **place) as session:
        await session.record("said elsewhere", "heard elsewhere")
asyncio.run(main(Path(sys.argv[1])))
"""


def command(directory: Path, name: str, *options: str) -> list[str]:
    return warm_command("-m", "mnesis.cli", name, "--db", str(directory / "s.db"), *options, has_mnesis=True)


def environment(directory: Path, key: str | None = KEY.hex()) -> dict[str, str]:
    found = {"HOME": str(directory / "home"), "PATH": os.environ["PATH"]}
    return found if key is None else found | {"MNESIS_ENCRYPTION_KEY": key}


def write_elsewhere(directory: Path) -> None:
    root = Path(__file__).parents[2]
    assert run_python(["-c", WRITER, str(directory)], cwd=root, has_mnesis=True).returncode == 0


async def fill(directory: Path) -> None:
    async with MnesisSession.open(
        model=None, session_id="ada", db_path=directory / "s.db", config=encrypted_config(directory)
    ) as session:
        await session.record(f"Where is the {CANARY}?", "In the stable.")
        await session.record([FilePart(name="a.log", text=f"{CANARY} is here\n" * 300)], "seen")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path))
    return tmp_path


def test_the_inspector_shows_an_encrypted_database_and_its_files(directory: Path) -> None:
    arguments = command(directory, "inspect", "--no-browser", "--storage", str(directory / "files"))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment(directory)) as process:
        assert process.stdout is not None
        url = httpx.URL(process.stdout.readline().strip())
        try:
            with httpx.Client(follow_redirects=True, timeout=60, trust_env=False) as client:
                assert client.get(url).status_code == 200
                pages = {
                    path: client.get(url.join(path)).text
                    for path in ("/s/ada/log", "/s/ada/context", "/s/ada/files", f"/search?q={CANARY}")
                }
                assert all(CANARY in pages[path] for path in ("/s/ada/log", "/s/ada/context", f"/search?q={CANARY}"))
                link = pages["/s/ada/files"].partition('href="/s/ada/files/')[2].partition('"')[0]
                assert f"{CANARY} is here" in client.get(url.join(f"/s/ada/files/{link}")).text
                write_elsewhere(directory)
                assert "heard elsewhere" in client.get(url.join("/s/ada/log")).text
        finally:
            process.send_signal(signal.SIGINT)
    assert find_on_disk(directory, CANARY) == []


@pytest.mark.parametrize("name", ["inspect", "mcp"])
@pytest.mark.parametrize("key", [None, "ab" * 32])
def test_the_servers_refuse_to_start_without_the_right_key(directory: Path, name: str, key: str | None) -> None:
    options = ["--no-browser"] if name == "inspect" else []
    done = subprocess.run(
        command(directory, name, *options),
        env=environment(directory, key),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 3, done
    assert "key" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_mcp_client_searches_an_encrypted_database(directory: Path) -> None:
    executable, *arguments = command(directory, "mcp", "--allow-record")
    server = StdioServerParameters(command=executable, args=arguments, env=environment(directory))
    async with Client(server) as client:
        found = await client.call_tool("search", {"query": CANARY})
        assert CANARY in found.content[0].text  # type: ignore[union-attr]  # every tool returns a text
        stored = await client.call_tool(
            "record",
            {"session_id": "ada", "user_message": f"Is the {CANARY} well?", "assistant_response": "It is."},
        )
        assert not stored.is_error, stored
    assert find_on_disk(directory, CANARY) == []


async def test_another_process_on_an_encrypted_database_is_followed(directory: Path) -> None:
    heard = asyncio.Event()
    async with Engine(directory / "s.db", config=encrypted_config(directory), follow=True) as engine:
        engine.events.subscribe(MnesisEvent.MESSAGE_CREATED, lambda _, payload: heard.set())
        await asyncio.to_thread(write_elsewhere, directory)
        await heard.wait()
