"""Throughput of maps compared with what a model server allows, and their memory. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import format_table
from mnesis.engine import Engine
from mnesis.llm.base import LLM, LLMReply, LLMRequest
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.openai_compatible import OpenAICompatibleLLM
from mnesis.models.usage import TokenUsage
from mnesis.operators.llm_map import LLMMap

RESPONSE_SECONDS = 0.02
CONCURRENCY = 16
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
TEMPLATE = "Label this text: {{ item.text }}"
MODEL = "openai/benchmark"
RESPONSE_BODY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 1, "model": "benchmark",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '{"label": "a"}'}}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55},
    }
).encode()  # fmt: skip
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(RESPONSE_BODY)
    + RESPONSE_BODY
)


async def serve(response_seconds: float) -> None:
    """Answer every request after this many seconds. Prints the port on stdout."""

    async def handle_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await asyncio.sleep(response_seconds)
                writer.write(RESPONSE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle_connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class LightClient:
    """A minimal HTTP client with a pool of open connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def complete(self, request: LLMRequest) -> LLMReply:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({"model": request.model, "messages": list(request.messages)}).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        self._free.append((reader, writer))
        usage = TokenUsage(input=answer["usage"]["prompt_tokens"], output=answer["usage"]["completion_tokens"])
        return LLMReply(text=answer["choices"][0]["message"]["content"], usage=usage)

    def stream(self, request: LLMRequest) -> Any:
        raise NotImplementedError


class InstantClient(LightClient):
    """A client that answers without a server, for measuring memory."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        await asyncio.sleep(0)
        return LLMReply(text='{"label": "a"}')


class Seconds(NamedTuple):
    """How long work took: on the clock, and in processor time of all threads."""

    wall: float
    processor: float


def make_item(number: int) -> dict[str, Any]:
    return {"id": number, "text": f"text number {number}, " * 10}


async def time_floor(items: int, client: LLM, options: dict[str, Any]) -> Seconds:
    """Time the same calls with only a semaphore around them."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def call(number: int) -> None:
        async with slots:
            messages = [{"role": "user", "content": f"Label this text: {make_item(number)['text']}"}]
            json.loads((await client.complete(LLMRequest(MODEL, messages, options=options))).text)

    return await time_work(lambda: asyncio.gather(*(call(number) for number in range(items))))


async def time_map(items: int, client: LLM, options: dict[str, Any], folder: str | None) -> Seconds:
    """Time a map. The map is durable if `folder` is given."""
    engine = Engine(Path(folder) / f"{time.time_ns()}.db") if folder else None

    async def work() -> None:
        mapper = LLMMap(engine=engine, llm=client, model=MODEL)
        running = mapper.run(
            (make_item(number) for number in range(items)),
            TEMPLATE,
            SCHEMA,
            concurrency=CONCURRENCY,
            llm_options=options,
        )
        done = [result.success async for result in running]
        assert done == [True] * items

    try:
        return await time_work(work)
    finally:
        if engine:
            await engine.close()


async def time_work(work: Callable[[], Awaitable[Any]]) -> Seconds:
    """Time work on the clock, and in processor time of this process, which depends less on other load."""
    started, processor = time.perf_counter(), time.process_time()
    await work()
    return Seconds(time.perf_counter() - started, time.process_time() - processor)


async def measure_throughput(port: int, items: int, folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    options = {"api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
    direct = OpenAICompatibleLLM(options["api_base"])
    clients: tuple[tuple[str, LLM, int], ...] = (
        ("light client", LightClient(port), 1),
        ("OpenAICompatibleLLM", direct, 1),
        ("litellm", LiteLLM(), 5),
    )
    for name, client, share in clients:
        count, ideal = items // share, items // share * RESPONSE_SECONDS / CONCURRENCY
        await time_floor(CONCURRENCY * 2, client, options)
        floor = await time_floor(count, client, options)
        times = {
            "floor": floor,
            "nothing stored": await time_map(count, client, options, None),
            "durable": await time_map(count, client, options, folder),
        }
        rows += [
            {
                "map": f"{name}, {kind}",
                "items": count,
                "seconds": seconds.wall,
                "of_ideal": ideal / seconds.wall,
                "of_floor": floor.wall / seconds.wall,
                "processor_ms_per_item": seconds.processor * 1_000 / count,
            }
            for kind, seconds in times.items()
        ]
    await direct.close()
    return rows


async def print_peak_memory(items: int, folder: str) -> None:
    """Run a durable map from file to file and print the peak memory in MB (Linux: since the process started)."""
    source = Path(folder) / f"{items}.jsonl"
    with source.open("w") as file:
        file.writelines(json.dumps(make_item(number)) + "\n" for number in range(items))
    async with Engine(Path(folder) / f"memory{items}.db") as engine:
        mapper = LLMMap(engine=engine, llm=InstantClient(0), model=MODEL)
        async for _ in mapper.run(source, TEMPLATE, SCHEMA, output_path=Path(folder) / f"{items}.out.jsonl"):
            pass
    status = Path("/proc/self/status").read_text()  # noqa: ASYNC240 - nothing else runs any more
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def measure_memory(items: int, folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for count in (items, items * 10) if sys.platform == "linux" else ():
        command = [sys.executable, "-m", "benchmarks.operators", "--remember", str(count), "--folder", folder]
        completed = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"map": "memory, JSONL in and out", "items": count, "peak_mb": float(completed.stdout)})
    return rows


async def measure(items: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.operators", "--serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - nothing else runs yet
    assert server.stdout is not None
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = await measure_throughput(int(server.stdout.readline()), items, folder)
            return rows + measure_memory(items // 2, folder)
    finally:
        server.kill()
        server.wait()


def row_cells(row: dict[str, Any]) -> list[str]:
    if "peak_mb" in row:
        return [row["map"], f"{row['items']:,}", "", "", "", "", f"{row['peak_mb']:.0f}"]
    return [
        row["map"],
        f"{row['items']:,}",
        f"{row['seconds']:.1f}",
        f"{row['of_ideal']:.0%}",
        f"{row['of_floor']:.0%}",
        f"{row['processor_ms_per_item']:.2f}",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 items: a smoke run")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--response-seconds", type=float, default=RESPONSE_SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--remember", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.response_seconds))
    elif options.remember:
        asyncio.run(print_peak_memory(options.remember, options.folder))
    else:
        rows = asyncio.run(measure(500 if options.quick else 10_000))
        head = ("map", "items", "seconds", "of ideal", "of floor", "processor ms/item", "peak MB")
        print(json.dumps(rows) if options.json else format_table(head, [row_cells(row) for row in rows]))


if __name__ == "__main__":
    main()
