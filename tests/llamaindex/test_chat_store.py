"""`MnesisChatStore` under LlamaIndex's own `Memory`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.memory.mnesis import MnesisChatStore

from mnesis import MnesisSession
from tests.support.llamaindex_fakes import assistant, turns, user


@pytest.fixture
async def store(db: Path) -> AsyncIterator[MnesisChatStore]:
    made = MnesisChatStore.from_defaults(db_path=db)
    yield made
    await made.aclose()


async def test_messages_are_kept_by_key_in_order(store: MnesisChatStore) -> None:
    await store.add_message("a", user("1"))
    await store.add_messages("a", [assistant("2"), user("3")])
    await store.add_messages("a", [])
    await store.add_message("b", user("other"))
    assert await store.get_messages("a") == [user("1"), assistant("2"), user("3")]
    assert await store.get_messages("a", limit=1, offset=1) == [assistant("2")]
    assert await store.count_messages("a") == 3
    assert sorted(await store.get_keys()) == ["a", "b"]


async def test_archived_messages_leave_the_queue_and_are_still_there(store: MnesisChatStore, db: Path) -> None:
    await store.add_messages("a", turns(3))
    assert await store.archive_oldest_messages("a", 2) == turns(3)[:2]
    assert await store.archive_oldest_messages("a", 1) == turns(3)[2:3]
    again = MnesisChatStore.from_defaults(db_path=db)
    assert await again.get_messages("a") == turns(3)[3:]
    assert await again.get_messages("a", status=MessageStatus.ARCHIVED) == turns(3)[:3]
    assert await again.get_messages("a", status=None) == turns(3)
    await again.add_message("a", user("filed"), status=MessageStatus.ARCHIVED)
    assert await again.count_messages("a", MessageStatus.ARCHIVED) == 4
    assert await again.count_messages("a") == 3
    await again.aclose()


async def test_deleted_messages_leave_every_list_and_the_log_keeps_them(store: MnesisChatStore, db: Path) -> None:
    await store.add_messages("a", turns(3))
    assert await store.delete_message("a", 1) == turns(3)[1]
    assert await store.delete_message("a", 9) is None
    assert await store.delete_oldest_messages("a", 2) == [turns(3)[0], turns(3)[2]]
    assert await store.get_messages("a", status=None) == turns(3)[3:]
    await store.archive_oldest_messages("a", 1)
    await store.delete_messages("a")
    assert await store.get_messages("a", status=None) == []
    session = await MnesisSession.load("a", db_path=db)
    assert len(await session.messages()) == 6
    await session.close()


async def test_set_replaces_and_does_not_repeat(store: MnesisChatStore) -> None:
    await store.set_messages("a", turns(2))
    await store.set_messages("a", turns(3))
    assert await store.get_messages("a") == turns(3)
    await store.set_messages("a", [user("new")])
    assert await store.get_messages("a") == [user("new")]


async def test_archiving_at_the_same_time_takes_each_message_once(store: MnesisChatStore) -> None:
    await store.add_messages("a", turns(10))
    taken = await asyncio.gather(*(store.archive_oldest_messages("a", 2) for _ in range(4)))
    assert sorted(str(m.content) for each in taken for m in each) == sorted(str(m.content) for m in turns(10)[:8])
    assert await store.get_messages("a") == turns(10)[8:]


@pytest.mark.skipif(
    "chat_store" not in inspect.signature(Memory.from_defaults).parameters, reason="Memory takes no store here"
)
async def test_memory_works_over_it_and_finds_everything_after_a_restart(store: MnesisChatStore, db: Path) -> None:
    memory = Memory.from_defaults(
        session_id="m", chat_store=store, token_limit=300, chat_history_token_ratio=0.5, token_flush_size=50
    )
    for message in turns(10):
        await memory.aput(message)
    queue = await memory.aget()
    assert 0 < len(queue) < 20
    assert queue == turns(10)[-len(queue) :]
    again = MnesisChatStore.from_defaults(db_path=db)
    assert await again.get_messages("m", status=None) == turns(10)
    assert await again.get_messages("m") == queue
    await again.aclose()
