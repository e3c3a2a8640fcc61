"""The lock that lets one turn through at a time, whichever loop it is asked for in."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mnesis.concurrency import FairLock


async def test_it_is_given_in_the_order_it_was_asked_for() -> None:
    lock, order = FairLock(), []

    async def take(number: int) -> None:
        async with lock:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number) for number in range(6)))
    assert order == list(range(6))
    assert not lock.locked()


@pytest.mark.parametrize("steps", range(5))
async def test_a_cancelled_waiter_passes_the_lock_on(steps: int) -> None:
    lock = FairLock()

    async def take() -> str:
        async with lock:
            return "had it"

    async with lock:
        waiter, next_one = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0)
    waiter.cancel()
    assert await asyncio.wait_for(next_one, 5) == "had it"
    await asyncio.wait([waiter])
    assert not lock.locked()
    async with asyncio.timeout(5), lock:
        assert lock.locked()


def test_it_excludes_tasks_of_loops_in_different_threads() -> None:
    lock, inside, most, done = FairLock(), 0, 0, []

    async def take() -> None:
        nonlocal inside, most
        for _ in range(100):
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
        done.append(True)

    threads = [threading.Thread(target=lambda: asyncio.run(take())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(done), most, inside) == (4, 1, 0)


def test_a_loop_that_closed_while_it_waited_is_passed_over() -> None:
    lock = FairLock()

    async def wait_in_vain() -> None:
        waiting = asyncio.ensure_future(lock.__aenter__())
        await asyncio.sleep(0)
        lost.append(waiting)

    async def main() -> None:
        async with lock:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=lambda: (loop.run_until_complete(wait_in_vain()), loop.close()))
            thread.start()
            await asyncio.to_thread(thread.join)
        async with asyncio.timeout(5), lock:
            pass

    lost: list[asyncio.Future[None]] = []
    asyncio.run(main())
    lost[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be lost
