# ruff: noqa: S101  # tests assert
"""The conformance suite of vectors, for authors of a new store. Use it like `mnesis.testing.store_suite.StoreSuite`.

It needs numpy.
"""

from __future__ import annotations

from mnesis.errors import SessionNotFoundError
from mnesis.models.search import QueryVector, Search
from mnesis.models.session import SessionRecord
from mnesis.search.vectors import encode_vectors
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import expect_error, make_message

MODEL = "compass"
DIRECTIONS = {
    "north": (1.0, 0.0),
    "north-east": (1.0, 1.0),
    "east": (0.0, 1.0),
    "south": (-1.0, 0.0),
    "west": (0.0, -1.0),
}
NORTH = Search("polar", "s", vector=QueryVector(MODEL, DIRECTIONS["north"]))


async def store_directions(store: Store, session_id: str = "s") -> None:
    """Store a session whose messages are the directions."""
    await store.create_session(SessionRecord(id=session_id, model="m"))
    messages = [make_message("user", name, id=f"{session_id}-{name}") for name in DIRECTIONS]
    await store.append(session_id, Append(messages))


async def save_directions(store: Store, session_id: str | None = "s", model: str = MODEL) -> int:
    """Store a vector for each message that has none. Returns their number."""
    messages = await store.messages_without_vectors(session_id, model)
    await store.save_vectors(model, {each.key: encode_vectors([DIRECTIONS[each.text]]) for each in messages})
    return len(messages)


class VectorSuite:
    """The rules of vectors. Subclass it and define a fixture `store` that is empty and open."""

    async def test_a_vector_finds_messages_without_a_word_of_the_query(self, store: Store) -> None:
        await store_directions(store)
        assert len(await store.search(Search("polar", "s"))) == 0
        await save_directions(store)
        page = await store.search(NORTH)
        assert [hit.message_id for hit in page][:2] == ["s-north", "s-north-east"]
        assert page.missing_vectors == 0
        assert (await store.search(Search("south", "s", vector=NORTH.vector)))[0].message_id == "s-south"

    async def test_messages_without_a_vector_are_listed_and_counted(self, store: Store) -> None:
        await store_directions(store)
        assert (await store.search(NORTH)).missing_vectors == len(DIRECTIONS)
        first = await store.messages_without_vectors("s", MODEL, limit=2)
        assert [each.text for each in first] == ["north", "north-east"]
        await store.save_vectors(MODEL, {each.key: encode_vectors([DIRECTIONS[each.text]]) for each in first})
        assert [each.text for each in await store.messages_without_vectors("s", MODEL)] == ["east", "south", "west"]
        assert [each.text for each in await store.messages_without_vectors("s", MODEL, after_seq=4)] == ["west"]
        assert (await store.search(NORTH)).missing_vectors == 3
        with expect_error(SessionNotFoundError):
            await store.messages_without_vectors("unknown", MODEL)

    async def test_vectors_of_another_model_or_size_are_ignored(self, store: Store) -> None:
        await store_directions(store)
        await save_directions(store)
        for vector in (QueryVector("other", (1.0, 0.0)), QueryVector(MODEL, (1.0, 0.0, 0.0))):
            page = await store.search(Search("polar", "s", vector=vector))
            assert (len(page), page.missing_vectors) == (0, len(DIRECTIONS))
        assert len(await store.messages_without_vectors("s", "other")) == len(DIRECTIONS)

    async def test_all_sessions_are_searched_by_vectors(self, store: Store) -> None:
        await store_directions(store)
        await store_directions(store, "t")
        assert await save_directions(store, None) == 2 * len(DIRECTIONS)
        page = await store.search(Search("polar", vector=NORTH.vector))
        assert {hit.message_id for hit in page[:2]} == {"s-north", "t-north"}

    async def test_filters_hold_for_what_vectors_find(self, store: Store) -> None:
        await store_directions(store)
        await store.append("s", Append([make_message("assistant", "north", id="reply")]))
        await save_directions(store)
        page = await store.search(Search("polar", "s", role="assistant", vector=NORTH.vector))
        assert [hit.message_id for hit in page] == ["reply"]

    async def test_a_purge_and_reindexing_erase_vectors(self, store: Store) -> None:
        await store_directions(store)
        await store_directions(store, "t")
        unembedded = await store.messages_without_vectors("s", MODEL)
        await save_directions(store, None)
        await store.purge("s")
        await store.save_vectors(MODEL, {each.key: encode_vectors([(1.0, 0.0)]) for each in unembedded})
        assert {hit.session_id for hit in await store.search(Search("polar", vector=NORTH.vector))} == {"t"}
        assert await store.messages_without_vectors("t", MODEL) == []
        await store.reindex()
        assert len(await store.messages_without_vectors("t", MODEL)) == len(DIRECTIONS)
