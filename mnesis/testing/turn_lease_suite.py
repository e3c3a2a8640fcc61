# ruff: noqa: S101  # tests assert
"""The conformance suite of stores for leases on turns; see `mnesis.testing.store_suite`."""

from __future__ import annotations

from mnesis.errors import SessionNotFoundError, TurnLostError
from mnesis.models.session import SessionRecord
from mnesis.models.turn_lease import TurnLease
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import expect_error, make_message

LEASE = 10


async def claim(store: Store, holder: str, *, now: int = 0, dead_fence: int | None = None) -> TurnLease:
    """Claim the turns of the session of these tests."""
    return await store.claim_turn("s", holder, now_ms=now, lease_ms=LEASE, dead_fence=dead_fence)


class TurnLeaseSuite:
    """The rules of leases on turns. Subclass it and define a fixture `store` that is empty and open."""

    async def test_only_one_holder_at_a_time(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        first = await claim(store, "a")
        assert (first.holder, first.lease_until) == ("a", LEASE)
        second = await claim(store, "b", now=LEASE - 1)
        assert (second.holder, second.fence, second.lease_until) == ("a", first.fence, LEASE)
        again = await claim(store, "a", now=5)
        assert (again.holder, again.fence, again.lease_until) == ("a", first.fence, LEASE + 5)

    async def test_a_lease_is_free_after_release_and_after_its_end(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        first = await claim(store, "a")
        await store.release_turn("s", first)
        second = await claim(store, "b")
        assert second.holder == "b"
        third = await claim(store, "c", now=LEASE)
        assert third.holder == "c"
        assert first.fence < second.fence < third.fence

    async def test_the_lease_of_a_dead_holder_can_be_claimed(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        dead = await claim(store, "a")
        assert (await claim(store, "b", dead_fence=dead.fence + 1)).holder == "a"
        taken = await claim(store, "b", dead_fence=dead.fence)
        assert taken.holder == "b"
        assert (await claim(store, "c", dead_fence=dead.fence)).holder == "b"  # another holder has taken it over

    async def test_only_its_holder_renews_and_releases_a_lease(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        first = await claim(store, "a")
        assert await store.renew_turn("s", first, now_ms=2 * LEASE, lease_ms=LEASE)
        assert (await claim(store, "b", now=2 * LEASE)).holder == "a"
        second = await claim(store, "b", now=3 * LEASE)
        assert second.holder == "b"
        assert not await store.renew_turn("s", first, now_ms=3 * LEASE, lease_ms=LEASE)
        await store.release_turn("s", first)
        assert (await claim(store, "c", now=3 * LEASE)).holder == "b"

    async def test_a_holder_that_lost_its_lease_cannot_write(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        first = await claim(store, "a")
        stored = await store.append("s", Append([make_message("user", "one")], fence=first.fence))
        second = await claim(store, "b", now=LEASE)
        covers = (await store.active_context("s")).covers
        late = Append([make_message("user", "late")], fence=first.fence)
        for write in (
            store.append("s", late),
            store.revise("s", [(1, 1)], late, last_seq=1),
            store.replace_covers("s", [], late, read_covers=covers, last_seq=1),
        ):
            with expect_error(TurnLostError):
                await write
        await store.append("s", Append([make_message("user", "two")], fence=second.fence))
        await store.append("s", Append([make_message("user", "three")]))  # asked for no lease
        texts = [message.text_content() for message in await store.messages("s")]
        assert texts == ["one", "two", "three"]
        # A committed append is confirmed all the same, because the holder may have lost the answer.
        again = await store.append("s", Append([stored.messages[0]], fence=first.fence))
        assert not again.is_new
        assert await store.check() == []

    async def test_a_fence_needs_a_lease(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        with expect_error(TurnLostError):
            await store.append("s", Append([make_message("user", "one")], fence=1))

    async def test_no_fence_is_repeated_after_a_purge(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        old = await claim(store, "a", now=1)
        await store.purge("s")
        for verb in (
            claim(store, "a"),
            store.renew_turn("s", old, now_ms=1, lease_ms=LEASE),
            store.release_turn("s", old),
        ):
            with expect_error(SessionNotFoundError):
                await verb
        await store.create_session(SessionRecord(id="s", model="m"))
        await claim(store, "b", now=2)
        with expect_error(TurnLostError):
            await store.append("s", Append([make_message("user", "old")], fence=old.fence))

    async def test_leases_are_no_changes(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        record, position = await store.session("s"), await store.last_change()
        lease = await claim(store, "a")
        await store.renew_turn("s", lease, now_ms=1, lease_ms=LEASE)
        await store.release_turn("s", lease)
        assert await store.changes(after=position, limit=10) == []
        assert await store.session("s") == record
