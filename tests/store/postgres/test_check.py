"""The integrity check of a PostgreSQL database."""

from __future__ import annotations

from typing import Any

import pytest

from mnesis.database_url import DatabaseURL
from mnesis.models.context import Cover
from mnesis.store.base import Store
from mnesis.testing.store_samples import make_compaction, make_leaf, store_conversation

pytest.importorskip("psycopg")


async def test_a_check_reads_one_row_for_each_span_of_covered_messages(
    store: Store, admin: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnesis.store.postgres.transaction import Answer

    await store_conversation(store, 6)
    await store.compact("s", make_compaction((), [Cover(1, 9, "one")], [make_leaf("one", 1, 9)]))
    read: list[list[Any]] = []
    rows = Answer.rows
    monkeypatch.setattr(Answer, "rows", lambda self: (read.append(rows(self)), read[-1])[1])
    assert await store.check() == []
    assert not any(len(answer) == 9 for answer in read)
    schema = DatabaseURL(url).schema
    admin.execute(f"ALTER TABLE {schema}.summary_messages DISABLE TRIGGER ALL")
    admin.execute(f"DELETE FROM {schema}.summary_messages WHERE seq = 4")
    admin.execute(f"ALTER TABLE {schema}.summary_messages ENABLE TRIGGER ALL")
    details = [finding.detail for finding in await store.check()]
    assert "session 's': summary 'one' covers 9 messages; 8 can be reached" in details
    assert "session 's': 1 messages from 4 on cannot be reached from the context" in details
