# ruff: noqa: S101  # tests assert
"""The conformance suite of the hashes that every store keeps, for authors of a new store.

Use it like `mnesis.testing.store_suite.StoreSuite`: the only fixture is an empty, open store. It checks that the heads are
those of `mnesis.store.chain`, so that a head that one store printed can be checked against another.
"""

from __future__ import annotations

from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import encode_message, hash_of
from mnesis.testing.store_samples import EVERY_PART, HOSTILE_TEXTS, expect_error, make_message, store_conversation


class IntegritySuite:
    """The rules of hashes. Subclass it and define a fixture `store` that is empty and open."""

    async def test_the_head_follows_from_the_messages(self, store: Store) -> None:
        session_id = "any name: /\\'%_\x00 ü"
        await store.create_session(SessionRecord(id=session_id, model="m"))
        assert [(h.message_count, h.hash) for h in (await store.verify()).heads] == [
            (0, first_log_head(session_id).hex())
        ]
        messages = [make_message("user", text, id=f"m{number}") for number, text in enumerate(HOSTILE_TEXTS)]
        every_part = make_message("assistant", id="parts").model_copy(update={"parts": EVERY_PART})
        await store.append(session_id, Append(messages))
        await store.append(session_id, Append([every_part]))
        head = first_log_head(session_id)
        for message in await store.messages(session_id):
            head = extend_chain(head, hash_of(session_id, message.seq, encode_message(message)))
        result = await store.verify(session_id=session_id)
        assert (result.is_intact, result.findings, len(result.heads)) == (True, (), 1)
        assert (result.heads[0].session_id, result.heads[0].hash) == (session_id, head.hex())

    async def test_the_head_depends_on_every_value_and_on_the_order(self, store: Store) -> None:
        one = make_message("user", "a", id="1", tokens=7, created_at=5)
        two = make_message("user", "b", id="2", tokens=7, created_at=5)
        logs = {
            "as it is": [one, two],
            "another order": [two, one],
            "another time": [one, two.model_copy(update={"created_at": 6})],
            "another count": [one, two.model_copy(update={"token_count": 8})],
            "another role": [one, two.model_copy(update={"role": "assistant"})],
            "fewer": [one],
        }
        for session_id, messages in logs.items():
            await store.create_session(SessionRecord(id=session_id, model="m"))
            await store.append(session_id, Append(messages))
        assert len({head.hash for head in (await store.verify()).heads}) == len(logs)

    async def test_earlier_heads_are_found_in_the_history_and_others_are_not(self, store: Store) -> None:
        await store_conversation(store, 1, "s")
        await store_conversation(store, 1, "t")
        earlier = {head.session_id: head.hash for head in (await store.verify()).heads}
        await store.append("s", Append([make_message("user", "later")]))
        checked: list[tuple[int, int]] = []
        verification = await store.verify(heads=earlier, on_progress=lambda *numbers: checked.append(numbers))
        assert verification.findings == ()
        assert checked[-1] == (2, 2)
        assert (await store.verify(session_id="s", heads={"s": [earlier["s"]]})).is_intact
        swapped = await store.verify(heads={"s": earlier["t"], "t": [earlier["t"], earlier["s"]]})
        assert sorted(finding.check for finding in swapped.findings) == ["head", "head"]
        assert not swapped.is_intact
        await store.purge("s")
        purged = await store.verify(heads=earlier)
        assert [(finding.check, finding.ids) for finding in purged.findings] == [("head", ("s",))]

    async def test_what_is_no_head_and_who_is_no_session_is_refused(self, store: Store) -> None:
        await store_conversation(store, 1)
        for wrong in ("", "00", "g" * 64, "0" * 62):
            with expect_error(ConfigurationError):
                await store.verify(heads={"s": wrong})
        with expect_error(SessionNotFoundError):
            await store.verify(session_id="nobody")
