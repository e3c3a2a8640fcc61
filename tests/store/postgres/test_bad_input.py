"""What cannot work is refused with a typed error that names the remedy and never the password."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mnesis import Engine
from mnesis.cli.app import cli
from mnesis.config import StoreConfig
from mnesis.database_url import DatabaseURL
from mnesis.errors import (
    ConfigurationError,
    CorruptStoreError,
    MnesisError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    StoreAccessDeniedError,
    StoreUnavailableError,
)
from tests.support.postgres import connect, server_url, url_of, with_schema

psycopg = pytest.importorskip("psycopg")

SECRET = "hunter2-secret"
QUICK = StoreConfig(connection_timeout=0.3)


async def open_error(url: str, config: StoreConfig = QUICK) -> MnesisError:
    """Return the error of opening a database, after checking that nothing shows the password."""
    from mnesis.store.postgres import PostgresStore

    store = PostgresStore(url, config)
    with pytest.raises(MnesisError) as raised:
        await store.open()
    await store.close()
    trace = "".join(traceback.format_exception(raised.value))
    shown = [str(raised.value), repr(raised.value), repr(store), store.location, trace]
    assert not any(SECRET in text for text in shown)
    return raised.value


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ada:{SECRET}@db.example:5432/chat",
        f"postgres://ada:{SECRET}@/chat?host=/run&sslmode=disable",
        f"postgresql://ada@db/chat?password={SECRET}&schema=other",
        f"postgresql://ada:p%40{SECRET}@db/chat?sslpassword={SECRET}&application_name=a@b",
        f"postgresql://ada:{SECRET}@db/chat?oauth_client_secret={SECRET}&scram_client_key={SECRET}&pwd={SECRET}",
    ],
)
def test_no_text_of_a_url_contains_the_password(text: str) -> None:
    url = DatabaseURL(text)
    engine = Engine(text)
    config = StoreConfig(db_path=text)
    shown = [
        url,
        str(url),
        repr(url),
        f"{url}",
        f"{url!r}",
        str.format("{}", url),
        url + "",
        engine.path,
        repr(config),
        str(config),
    ]
    assert not any(SECRET in each for each in shown)
    assert SECRET in url.conninfo
    assert DatabaseURL(url) is url
    assert isinstance(engine.path, DatabaseURL)
    assert Engine(engine.path).path.conninfo == url.conninfo  # type: ignore[attr-defined]  # asserted above
    assert isinstance(config.db_path, DatabaseURL)
    assert config.db_path.conninfo == url.conninfo


@pytest.mark.parametrize("password", ["a@b", "a/b", "a?b", "a#b", "12/b", "12?b", "a%b", "a%zz", "a%00", "a b"])
def test_a_password_that_is_not_escaped_is_refused_without_showing_it(password: str) -> None:
    for parts in (password, f"{SECRET}{password}", f"{password}{SECRET}", f"{SECRET}@{SECRET}"):
        with pytest.raises(ConfigurationError, match="write @ as %40") as raised:
            DatabaseURL(f"postgresql://ada:{parts}@db.example/chat?sslmode=disable")
        assert SECRET not in str(raised.value)
        assert "example" not in str(raised.value)


@pytest.mark.parametrize("schema", ["", "pg_temp", "information_schema", "A", "a-b", 'a"b', "x" * 64, "a b", "1a"])
def test_a_schema_that_cannot_be_used_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        DatabaseURL(f"postgresql://u:{SECRET}@h/d?schema={schema}")


def test_own_parameters_do_not_reach_the_server() -> None:
    url = DatabaseURL("postgresql://u@h/d?sslmode=require&schema=chat&pgbouncer=true")
    assert (url.schema, url.uses_pgbouncer) == ("chat", True)
    assert url.conninfo == "postgresql://u@h/d?sslmode=require"
    with pytest.raises(ConfigurationError, match="pgbouncer"):
        DatabaseURL("postgresql://u@h/d?pgbouncer=maybe")


@pytest.mark.parametrize(
    "scheme",
    ["postgresql+psycopg://", "jdbc:postgresql://", "mysql://", "postgresql:/", "sqlite:///", " postgresql://"],
)
def test_the_url_of_another_database_names_no_file(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnesis.store.postgres import PostgresStore

    monkeypatch.chdir(tmp_path)
    url = f"{scheme}ada:{SECRET}@db.example/chat"
    for open_database in (Engine, PostgresStore, DatabaseURL):
        with pytest.raises(ConfigurationError, match="postgresql://user@host/database") as raised:
            open_database(url)
        assert SECRET not in "".join(traceback.format_exception(raised.value))
    monkeypatch.setenv("MNESIS_DB", url)
    result = CliRunner().invoke(cli, ["ls"])
    assert (result.exit_code, SECRET in result.output) == (2, False)
    assert list(tmp_path.iterdir()) == []


async def test_a_url_that_libpq_cannot_read_is_a_configuration_error() -> None:
    for url in (f"postgresql://u:{SECRET}@127.0.0.1:port/d", f"postgresql://u:{SECRET}@h/d?nonsense=1"):
        assert isinstance(await open_error(url), ConfigurationError)


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    error = await open_error(f"postgresql://u:{SECRET}@127.0.0.1:1/d")
    assert isinstance(error, StoreUnavailableError)
    assert "check that the server runs" in str(error)
    assert not error.is_outcome_unknown


async def test_a_missing_database_is_named(url: str) -> None:
    error = await open_error(url_of(url, "postgres", "no_such_database"))
    assert isinstance(error, ConfigurationError)
    assert "no such database" in str(error)


async def test_an_unknown_role_is_refused_by_the_server(url: str) -> None:
    error = await open_error(url_of(url, "no_such_role", password=SECRET))
    assert isinstance(error, StoreAccessDeniedError)
    assert "correct the user" in str(error)


async def test_a_wrong_password_is_refused_by_the_server(admin: Any, url: str) -> None:
    # The test server trusts local users, so the server's message is translated without it.
    from mnesis.store.postgres.translate_errors import translate_error

    message = 'connection failed: FATAL:  password authentication failed for user "ada"'
    error = translate_error(psycopg.OperationalError(message), "postgresql://ada@h/d")
    assert isinstance(error, StoreAccessDeniedError)
    assert "password in the URL" in str(error)


async def test_a_schema_with_other_tables_is_left_alone(admin: Any, url: str) -> None:
    schema = DatabaseURL(url).schema
    admin.execute(f"CREATE SCHEMA {schema}")
    admin.execute(f"CREATE TABLE {schema}.invoices (id integer)")
    error = await open_error(url)
    assert isinstance(error, CorruptStoreError)
    assert "schema=" in str(error)
    tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
    assert tables == [("invoices",)]


async def test_a_schema_prepared_by_an_administrator_is_used(admin: Any, url: str) -> None:
    from mnesis.store.postgres import PostgresStore

    admin.execute(f"CREATE SCHEMA {DatabaseURL(url).schema}")
    store = PostgresStore(url)
    await store.open()
    assert await store.check() == []
    await store.close()


async def test_a_newer_schema_is_left_alone(store: Any, admin: Any, url: str) -> None:
    await store.close()
    admin.execute(f"UPDATE {DatabaseURL(url).schema}.mnesis_schema SET version = 999")
    error = await open_error(url)
    assert isinstance(error, SchemaTooNewError)
    assert (error.found_version, error.supported_version) == (999, _newest_version())


def _newest_version() -> int:
    from mnesis.store.postgres.migrate import migrations

    assert [each.version for each in migrations()] == list(range(1, len(migrations()) + 1))
    return migrations()[-1].version


async def test_reading_creates_and_changes_nothing(admin: Any, url: str) -> None:
    from mnesis.models.session import SessionRecord
    from mnesis.store.postgres import PostgresStore

    read_only = StoreConfig(read_only=True)
    assert isinstance(await open_error(url, read_only), ReadOnlyStoreError)
    assert admin.execute("SELECT to_regnamespace(%s)", (DatabaseURL(url).schema,)).fetchone() == (None,)
    writer = PostgresStore(url)
    await writer.open()
    await writer.create_session(SessionRecord(id="s", model="m"))
    await writer.close()
    reader = PostgresStore(url, read_only)
    await reader.open()
    assert (await reader.session("s")).id == "s"
    with pytest.raises(ReadOnlyStoreError):
        await reader.create_session(SessionRecord(id="t", model="m"))
    await reader.close()


async def test_an_old_server_and_another_encoding_are_refused(admin: Any) -> None:
    from mnesis.store.postgres import migrate

    class Info:
        server_version = 140_011

        def parameter_status(self, name: str) -> str:
            return "UTF8"

    class OldServer:
        info = Info()

    url = DatabaseURL("postgresql://u@h/d")
    with pytest.raises(ConfigurationError, match="PostgreSQL 14, and mnesis needs 15"):
        migrate.prepare_schema(OldServer(), url, read_only=False)  # type: ignore[arg-type]  # stops at the version
    admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        error = await open_error(url_of(server_url(), "postgres", "latin"))
        assert isinstance(error, ConfigurationError)
        assert "LATIN1" in str(error)
    finally:
        admin.execute("DROP DATABASE latin")


def test_without_the_extra_the_install_command_is_named() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from mnesis import Engine\n"
        "from mnesis.errors import ConfigurationError\n"
        "try: Engine('postgresql://u:secret@h/d')\n"
        "except ConfigurationError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'mnesis-context[postgres]'" in result.stdout
    assert "secret" not in result.stdout + result.stderr


def test_two_schemas_of_a_database_are_apart(url: str) -> None:
    with connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert DatabaseURL(with_schema(url, "other")) != DatabaseURL(url)
