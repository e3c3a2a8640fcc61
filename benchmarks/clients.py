"""Processor time of model calls: the HTTP client alone, the clients of mnesis, and `send()` with a window of 50 messages. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.store.sample_turns import CONFIG, make_turns
from benchmarks.tables import format_table
from mnesis import MnesisConfig, MnesisSession, OpenAICompatibleLLM
from mnesis.llm.base import LLM, LLMReply, LLMRequest
from mnesis.llm.litellm import LiteLLM

MODEL = "openai/benchmark"
WINDOW_TURNS = 25
PIECES = 200
CALLS_PER_SAMPLE = 4
"""Few, because each turn makes the window of its session larger."""
CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "benchmark"}
USAGE = {"prompt_tokens": 5_000, "completion_tokens": 150, "total_tokens": 5_150}

Work = Callable[[], Awaitable[None]]


def _event(delta: dict[str, Any], finish_reason: str | None = None, **fields: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return b"data: " + json.dumps({**CHUNK, "choices": choices, **fields}).encode() + b"\n\n"


async def serve() -> None:
    """Answer calls at once, whole or as a stream of `PIECES` pieces. Prints the port on stdout."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 120}}
    whole = json.dumps({**CHUNK, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    events = [_event({"content": f"word{number} "}) for number in range(PIECES)] + [
        _event({}, "stop", usage=USAGE),
        b"data: [DONE]\n\n",
    ]

    async def handle_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                body = await reader.readexactly(int(length.partition(b":")[2]))
                if b'"stream": true' in body or b'"stream":true' in body:
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    for event in events:
                        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                        await writer.drain()
                    writer.write(b"0\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(whole), whole))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle_connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def measure(rounds: int, folder: Path, port: int) -> list[dict[str, Any]]:
    """Return the median processor milliseconds of each kind of call, measured in turn."""
    url = f"http://127.0.0.1:{port}/v1"
    turns = make_turns(WINDOW_TURNS)
    messages = [
        message
        for turn in turns
        for message in (
            {"role": "user", "content": turn.user_text},
            {"role": "assistant", "content": turn.assistant_text},
        )
    ][:-1]
    options = {"api_base": url, "api_key": "none"}
    config = MnesisConfig.model_validate(CONFIG.model_dump() | {"session": {"llm_options": options}})
    request = LLMRequest(MODEL, messages, options=options)
    rows: dict[str, list[float]] = {}
    async with aiohttp.ClientSession() as http, OpenAICompatibleLLM(url) as direct:

        async def post_bare(is_streamed: bool) -> None:
            body = {"model": "benchmark", "messages": messages, **({"stream": True} if is_streamed else {})}
            async with http.post(f"{url}/chat/completions", json=body) as response:
                if not is_streamed:
                    await response.json()
                    return
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        json.loads(line[6:])

        works: dict[str, Work] = {
            "call, aiohttp alone": lambda: post_bare(False),
            "stream, aiohttp alone": lambda: post_bare(True),
        }
        clients: dict[str, LLM] = {"OpenAICompatibleLLM": direct, "litellm": LiteLLM()}
        for number in range(rounds + 1):
            async with AsyncExitStack() as stack:
                for name, client in clients.items():
                    database = folder / f"{name}{number}.db"
                    opening = MnesisSession.open(model=MODEL, db_path=database, config=config, llm=client)
                    session = await stack.enter_async_context(opening)
                    for turn in turns[2:]:
                        await session.record(turn.user_text, turn.assistant_text)
                    await session.send("Begin.")  # reads and renders the window, which the measured turns continue
                    works[f"call, {name}"] = _call(client, request)
                    works[f"send(), {name}"] = _send(session)
                    works[f"stream, {name}"] = _consume(partial(client.stream, request))
                    works[f"session.stream(), {name}"] = _consume(partial(session.stream, "Go on."))
                for name, work in works.items():
                    started = time.process_time()
                    for _ in range(CALLS_PER_SAMPLE):
                        await work()
                    if number:
                        milliseconds = (time.process_time() - started) * 1_000 / CALLS_PER_SAMPLE
                        rows.setdefault(name, []).append(milliseconds)
    return [_row(name, {each: median(samples) for each, samples in rows.items()}) for name in rows]


def _row(name: str, medians: dict[str, float]) -> dict[str, Any]:
    """Return a row: the cost of a call, or of each piece of a stream, and its ratio to what it builds on."""
    kind, _, client = name.partition(", ")
    base_kind = {"send()": "call", "session.stream()": "stream"}.get(kind)
    base = f"{base_kind}, {client}" if base_kind else f"{kind}, aiohttp alone"
    pieces = PIECES if "stream" in kind else 1
    return {"name": name, "ms": medians[name] / pieces, "ratio": medians[name] / medians[base], "base": base}


def _call(client: LLM, request: LLMRequest) -> Work:
    async def call() -> None:
        assert isinstance(await client.complete(request), LLMReply)

    return call


def _send(session: MnesisSession) -> Work:
    async def send() -> None:
        await session.send("Go on.")

    return send


def _consume(stream: Callable[[], AsyncIterator[Any]]) -> Work:
    async def consume() -> None:
        async for _ in stream():
            pass

    return consume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: a smoke run")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, "-m", "benchmarks.clients", "--serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            rows = asyncio.run(measure(1 if options.quick else 15, Path(folder), port))
    finally:
        server.kill()
        server.wait()
    head = ("processor time", "ms", "ratio", "to")
    cells = [[row["name"], f"{row['ms']:.3f}", f"{row['ratio']:.2f}", row["base"]] for row in rows]
    print(json.dumps(rows) if options.json else format_table(head, cells))


if __name__ == "__main__":
    main()
