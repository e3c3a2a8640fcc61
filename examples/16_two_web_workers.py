"""Two web workers, two processes, one database: they share sessions, events and a map, and one turn runs at a time.

MNESIS_MOCK_LLM=1 uv run --extra inspect python examples/16_two_web_workers.py
ANTHROPIC_API_KEY=… uv run --extra inspect python examples/16_two_web_workers.py [model]

The database is a temporary SQLite file, or the PostgreSQL server in DATABASE_URL (with --extra postgres).
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from mnesis import Engine, LLMMap, MnesisConfig, MnesisEvent, SessionConfig
from mnesis.errors import SessionBusyError
from mnesis.llm.resolve import resolve
from mnesis.session.pool import SessionPool, SessionSettings

LABEL = {"type": "object", "properties": {"urgent": {"type": "boolean"}}, "required": ["urgent"]}


def create_app(database: str, model: str) -> Starlette:
    """Return the application that every worker runs."""
    config = MnesisConfig(session=SessionConfig(exclusive_turns=True, exclusive_wait_seconds=120))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # follow=True also publishes what the other worker commits.
        async with Engine(database, config=config, follow=True) as engine:
            app.state.engine = engine
            app.state.pool = SessionPool(engine=engine, settings=SessionSettings(model=model, llm=resolve()))
            app.state.tasks = set()
            yield
            for task in app.state.tasks:
                task.cancel()
            await app.state.pool.close()

    async def send(request: Request) -> JSONResponse:
        session = await app.state.pool.get_or_create(request.path_params["chat"])
        try:
            result = await session.send((await request.json())["text"])
        except SessionBusyError as error:
            return JSONResponse({"error": str(error)}, status_code=409)
        return JSONResponse({"text": result.text, "worker": os.getpid()})

    async def log(request: Request) -> JSONResponse:
        session = await app.state.pool.get_or_create(request.path_params["chat"])
        return JSONResponse([message.role for message in await session.messages()])

    async def events(request: Request) -> StreamingResponse:
        queue: asyncio.Queue[str] = asyncio.Queue()
        handler = app.state.engine.events.subscribe(
            MnesisEvent.MESSAGE_CREATED,
            lambda _, payload: queue.put_nowait(f"{payload['session_id']} {payload['seq']}"),
        )

        async def lines() -> AsyncIterator[str]:
            try:
                yield "listening\n"
                while True:
                    yield f"{await queue.get()}\n"
            finally:
                handler()

        return StreamingResponse(lines(), media_type="text/plain")

    async def start_map(request: Request) -> JSONResponse:
        mapper = LLMMap(model=model, engine=app.state.engine)
        run = await mapper.enqueue(await request.json(), "Is this urgent? {{ item }}", LABEL)
        return JSONResponse({"run_id": run.id, "items": run.total})

    async def join_map(request: Request) -> JSONResponse:
        mapper = LLMMap(model=model, engine=app.state.engine)
        task = asyncio.create_task(mapper.work(request.path_params["run"], concurrency=4))
        app.state.tasks.add(task)
        return JSONResponse({"worker": os.getpid()})

    async def show_map(request: Request) -> JSONResponse:
        run = await app.state.engine.store.run(request.path_params["run"])
        return JSONResponse({"done": run.done, "failed": run.failed, "total": run.total})

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/chats/{chat}", send, methods=["POST"]),
            Route("/chats/{chat}", log),
            Route("/events", events),
            Route("/maps", start_map, methods=["POST"]),
            Route("/maps/{run}/join", join_map, methods=["POST"]),
            Route("/maps/{run}", show_map),
        ],
    )
    return app


async def serve(database: str, model: str) -> None:
    """Run one worker on a free port, and print its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(database, model), port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn tells nobody
        await asyncio.sleep(0.01)
    print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)
    await serving


async def use(addresses: list[str]) -> None:
    """Use the service as browsers would: through either worker."""
    async with httpx.AsyncClient(timeout=120) as client, client.stream("GET", f"{addresses[1]}/events") as stream:
        heard = stream.aiter_lines()
        print("Events from the second worker:", await anext(heard))

        sent = [client.post(f"{addresses[n % 2]}/chats/ada", json={"text": f"Question {n}"}) for n in range(6)]
        answers = [answer.json() for answer in await asyncio.gather(*sent)]
        print(
            f"{len(answers)} answers from {len({answer['worker'] for answer in answers})} workers, sent at the same time"
        )
        roles = (await client.get(f"{addresses[0]}/chats/ada")).json()
        print("Turns never interleave:", roles == ["user", "assistant"] * 6)
        print(
            "The second worker heard of every message:", sorted([int((await anext(heard)).split()[1]) for _ in roles])
        )

        run = (await client.post(f"{addresses[0]}/maps", json=[f"Ticket {n}" for n in range(20)])).json()
        for address in addresses:
            await client.post(f"{address}/maps/{run['run_id']}/join")
        while (state := (await client.get(f"{addresses[1]}/maps/{run['run_id']}")).json())["done"] < run["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        print("A map on both workers:", json.dumps(state))


def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = os.environ.get("DATABASE_URL") or str(Path(directory, "service.db"))
        command = [sys.executable, __file__, "--serve", database, model]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            asyncio.run(use([worker.stdout.readline().strip() for worker in workers if worker.stdout is not None]))
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve(sys.argv[2], sys.argv[3]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6")
