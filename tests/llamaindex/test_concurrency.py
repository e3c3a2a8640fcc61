"""Tasks, threads, loops and processes on one session: nothing lost, no hang."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

from llama_index.memory.mnesis import MnesisMemory

from mnesis import Engine, concurrency
from mnesis.errors import MnesisError
from tests.support.llamaindex_fakes import MakeMemory, turns, user

pytestmark = pytest.mark.timeout(60)


async def test_fifty_tasks_may_be_the_first_to_use_a_memory(memory: MnesisMemory) -> None:
    await asyncio.gather(*(memory.aput(user(f"{n}")) for n in range(50)), *(memory.aget() for _ in range(50)))
    assert sorted(str(m.content) for m in await memory.aget_all()) == sorted(str(n) for n in range(50))


@pytest.mark.parametrize("in_memory", [False, True])
def test_eight_threads_may_be_the_first_to_use_a_memory(in_memory: bool, make_memory: MakeMemory) -> None:
    memory = make_memory(engine=Engine(":memory:")) if in_memory else make_memory()
    ready = threading.Barrier(8)

    def work(thread: int) -> None:
        ready.wait()
        for number in range(20):
            memory.put(user(f"{thread}-{number}"))
            memory.get()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    said = [str(message.content) for message in memory.get_all()]
    assert len(said) == len(set(said)) == 160
    for thread in range(8):
        mine = [text for text in said if text.startswith(f"{thread}-")]
        assert mine == [f"{thread}-{number}" for number in range(20)]


def test_several_loops_and_objects_share_a_session(make_memory: MakeMemory) -> None:
    memories = [make_memory(session_id="s") for _ in range(4)]

    def work(index: int) -> None:
        async def put() -> None:
            for number in range(10):
                await memories[index].aput(user(f"{index}-{number}"))

        asyncio.run(put())
        asyncio.run(memories[index].aput(user(f"{index}-again")))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(memories[0].get_all()) == 44


async def test_cancelling_a_put_loses_nothing_that_was_begun(memory: MnesisMemory) -> None:
    await memory.aput(user("first"))
    for steps in range(12):
        task = asyncio.ensure_future(memory.aput_messages([user(f"{steps}a"), user(f"{steps}b")]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await memory.aput(user("last"))
    said = [str(message.content) for message in await memory.aget_all()]
    for steps in range(12):
        assert (f"{steps}a" in said) == (f"{steps}b" in said)
    assert (said[0], said[-1]) == ("first", "last")


def test_a_call_from_the_serving_thread_raises_instead_of_blocking(memory: MnesisMemory) -> None:
    memory.put(user("a"))

    async def inside() -> None:
        memory.put(user("b"))

    with pytest.raises(MnesisError, match="wait for itself"):
        concurrency.run(inside())
    assert memory.get_all() == [user("a")]


def test_a_sync_call_in_a_loop_does_not_wait_for_blocked_tasks(memory: MnesisMemory) -> None:
    async def server() -> None:
        await memory.aput(user("first"))
        for steps in range(8):
            task = asyncio.ensure_future(memory.aput(user("request")))
            for _ in range(steps):
                await asyncio.sleep(0)
            memory.put(user("sync"))
            memory.reset()
            await task

    def run() -> None:
        asyncio.run(server())

    # A deadlock must not outlive the test: the thread it happens in is left behind.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(memory.history()) == 17


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reads_and_writes(memory: MnesisMemory) -> None:
    memory.put(user("parent"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            memory.put(user("child"))
            code = 0 if len(memory.get()) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    memory.put(user("parent again"))
    assert [message.content for message in memory.get()] == ["parent", "child", "parent again"]


def test_reads_during_compactions_see_every_message(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=1_500)
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                view = memory.get()
                assert not view or view[-1].role.value in ("user", "assistant")
            except BaseException as error:  # handed to the test
                errors.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    said = turns(80)
    for start in range(0, len(said), 2):
        memory.put_messages(said[start : start + 2])
    done.set()
    reader.join()
    assert errors == []
    assert memory.get_all() == said


def test_a_database_path_may_be_used_by_two_memories_at_once(db: Path, make_memory: MakeMemory) -> None:
    one, two = make_memory(session_id="one"), make_memory(session_id="two")
    one.put(user("1"))
    one.close()
    two.put(user("2"))
    assert two.get() == [user("2")]
