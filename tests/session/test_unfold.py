"""`unfold()`: the originals of a summary take its place in the context again."""

from __future__ import annotations

import pytest

from mnesis import Engine, MnesisSession
from mnesis.errors import SummaryNotFoundError
from mnesis.models.context import Cover
from mnesis.models.summary import Summary
from mnesis.store.covers import unfold_cover
from tests.session.support import chatter


async def open_session_with_summary(engine: Engine) -> tuple[MnesisSession, Summary]:
    """Return a session whose messages 1 to 14 are folded."""
    session = await MnesisSession.create(model=None, session_id="s", engine=engine)
    for number in range(8):
        await session.record(*chatter(number))
    await session.compact(keep_tokens=0)
    (summary,) = await session.summaries()
    return session, summary


async def shown_seqs(session: MnesisSession) -> list[int]:
    return [message.seq for message in (await session.window()).messages if not message.is_summary]


async def test_the_originals_take_the_place_of_a_summary() -> None:
    async with Engine(":memory:") as engine:
        session, summary = await open_session_with_summary(engine)
        assert await shown_seqs(session) == [15, 16]
        await session.unfold(summary.id)
        assert await shown_seqs(session) == [*range(1, 17)]
        assert not any(message.is_summary for message in (await session.window()).messages)
        assert await session.summaries() == [summary]
        assert len(await session.messages()) == 16
        assert await engine.store.check(session_id="s") == []


async def test_a_summary_that_the_context_does_not_show_is_refused() -> None:
    async with Engine(":memory:") as engine:
        session, summary = await open_session_with_summary(engine)
        await session.unfold(summary.id)
        for unknown in (summary.id, "sum_unknown"):
            with pytest.raises(SummaryNotFoundError):
                await session.unfold(unknown)


def test_what_was_hidden_inside_a_summary_stays_hidden() -> None:
    before = (Cover(1, 2, None), Cover(3, 12, "condensed"), Cover(15, 20, "other"))
    assert unfold_cover(before, "condensed", [3, 4, 7, 8, 11, 12]) == (
        Cover(1, 2, None),
        Cover(5, 6, None),
        Cover(9, 10, None),
        Cover(15, 20, "other"),
    )
