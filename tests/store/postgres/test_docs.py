"""The blocks of the page on PostgreSQL run as they stand, on the server of the tests."""

from __future__ import annotations

import ast
import inspect
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks, python_blocks
from tests.support.postgres import connect

pytest.importorskip("psycopg")

PAGE = DOCS / "postgres.md"
URL = "postgresql://app@db.example/chat"


async def test_the_python_blocks_print_what_the_page_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    for block in python_blocks(PAGE):
        namespace: dict[str, Any] = {}
        code = compile(
            block.text.replace(URL, url), str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        printed = StringIO()
        with redirect_stdout(printed):
            outcome = eval(code, namespace)
            if inspect.isawaitable(outcome):
                await outcome
        assert printed.getvalue() == (block.output or "")


SQL = [block.text for block in blocks(PAGE) if block.language == "sql"]


async def test_the_statement_that_grants_access_works(store: Any, admin: Any, url: str) -> None:
    from mnesis.database_url import DatabaseURL

    (statement,) = (text for text in SQL if "grant" in text.lower())
    with connect(url) as connection:
        connection.execute("CREATE ROLE app_of_the_page")
        try:
            text = statement.replace("mnesis.", f"{DatabaseURL(url).schema}.").replace("'app'", "'app_of_the_page'")
            connection.execute(text)
        finally:
            connection.execute("DROP OWNED BY app_of_the_page")
            connection.execute("DROP ROLE app_of_the_page")


async def test_the_statement_on_sizes_lists_the_tables(store: Any, url: str) -> None:
    from mnesis.database_url import DatabaseURL

    (statement,) = (text for text in SQL if "pg_size_pretty" in text)
    with connect(url) as connection:
        text = statement.replace("'mnesis'", f"'{DatabaseURL(url).schema}'")
        tables = [name for name, _ in connection.execute(text)]
    assert {"messages", "search_words"} <= set(tables)


def test_every_statement_of_the_page_is_run() -> None:
    assert len(SQL) == 2
