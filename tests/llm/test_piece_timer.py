"""One timer limits every wait for a piece of a stream (the limit of each request's `timeout_seconds`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from mnesis.llm.piece_timer import PieceTimer


async def pieces(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def test_a_stream_of_many_pieces_sets_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *args, **kwargs: timers.append(args) or call_at(*args, **kwargs))
    source = pieces(200)
    with closing(PieceTimer(600)) as timer:
        received = [await timer.wait(anext(source)) for _ in range(200)]
    assert received == list(range(200))
    assert len(timers) == 1


async def test_a_piece_that_never_comes_raises_a_timeout() -> None:
    with closing(PieceTimer(0.01)) as timer:
        assert await timer.wait(anext(pieces(1))) == 0
        with pytest.raises(TimeoutError, match="no answer within"):
            await timer.wait(asyncio.Event().wait())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_time_of_the_reader_does_not_count() -> None:
    source = pieces(2)
    with closing(PieceTimer(0.01)) as timer:
        assert await timer.wait(anext(source)) == 0
        await asyncio.sleep(0.05)
        assert await timer.wait(anext(source)) == 1


async def test_a_wait_may_belong_to_another_task() -> None:
    source = pieces(2)
    with closing(PieceTimer(600)) as timer:
        first = await asyncio.create_task(timer.wait(anext(source)))
        assert [first, await timer.wait(anext(source))] == [0, 1]


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    with closing(PieceTimer(600)) as timer:
        task = asyncio.create_task(timer.wait(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
