from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_mnesis import MnesisChatMessageHistory, aimport_sql_history, import_sql_history
from mnesis import Engine
from mnesis.errors import ConfigurationError, InvalidMessageError
from tests.support.langchain_fakes import texts_of, write_sql_history

MESSAGES: list[BaseMessage] = [
    HumanMessage("hi", id="same"),
    AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1", "type": "tool_call"}], id="same"),
    ToolMessage("found", tool_call_id="c1"),
    AIMessage("there"),
]


def test_every_session_is_copied_in_order_with_its_ids(engine: Engine, tmp_path: Path) -> None:
    source = write_sql_history(tmp_path / "old.db", {"b": MESSAGES, "a": [HumanMessage(str(n)) for n in range(1_200)]})
    assert import_sql_history(source, engine=engine) == {"a": 1_200, "b": 4}
    assert MnesisChatMessageHistory("b", engine=engine, view="full").messages == MESSAGES
    assert texts_of(MnesisChatMessageHistory("a", engine=engine, view="full").messages) == [
        str(n) for n in range(1_200)
    ]


async def test_doing_it_again_copies_only_what_came_since(engine: Engine, tmp_path: Path) -> None:
    source = write_sql_history(tmp_path / "old.db", {"a": MESSAGES})
    await aimport_sql_history(source, engine=engine)
    assert await aimport_sql_history(source, engine=engine) == {"a": 0}
    write_sql_history(source, {"a": [HumanMessage("later")]})
    assert await aimport_sql_history(source, engine=engine) == {"a": 1}
    assert len(await MnesisChatMessageHistory("a", engine=engine, view="full").aget_messages()) == 5


def test_the_source_is_only_read_and_may_be_any_table(engine: Engine, tmp_path: Path) -> None:
    source = write_sql_history(tmp_path / "old.db", {"a": MESSAGES}, table="my old table's")
    before = source.read_bytes()
    source.chmod(0o400)
    assert import_sql_history(source, engine=engine, table_name="my old table's") == {"a": 4}
    assert source.read_bytes() == before


def test_what_is_not_there_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.db"):
        import_sql_history(tmp_path / "nowhere.db", engine=engine)
    source = write_sql_history(tmp_path / "old.db", {"a": MESSAGES})
    with pytest.raises(ConfigurationError, match="other_table"):
        import_sql_history(source, engine=engine, table_name="other_table")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("INSERT INTO message_store (session_id, message) VALUES ('z', '{\"type\": \"hologram\"}')")
    with pytest.raises(InvalidMessageError, match="row 5"):
        import_sql_history(source, engine=engine)
