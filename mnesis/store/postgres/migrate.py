"""Create or migrate the schema: numbered scripts, committed together with their version, in one process at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg

from mnesis.database_url import DatabaseURL
from mnesis.errors import (
    ConfigurationError,
    CorruptStoreError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    StoreAccessDeniedError,
)
from mnesis.store.postgres.queries import statements
from mnesis.store.postgres.seal import OnHashed, add_missing_hashes
from mnesis.store.postgres.transaction import Transaction

HASHES_VERSION = 6
"""The schema version whose migration adds the hashes."""
MIN_SERVER_VERSION = 150_000
"""PostgreSQL 15, as `server_version_num` writes it; older releases are no longer tested."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration script. `version` is the schema version after it; versions count from 1 without gaps."""

    version: int
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the scripts that ship with the library, in order."""
    folder = files("mnesis.store.postgres").joinpath("migrations")
    entries = [(re.match(r"(\d+)_.*\.sql$", entry.name), entry) for entry in folder.iterdir()]
    scripts = (Migration(int(match[1]), entry.read_text(encoding="utf-8")) for match, entry in entries if match)
    return tuple(sorted(scripts, key=lambda migration: migration.version))


def prepare_schema(
    connection: psycopg.Connection[Any],
    url: DatabaseURL,
    *,
    read_only: bool,
    key: bytes | None = None,
    scripts: Sequence[Migration] | None = None,
    on_progress: OnHashed | None = None,
) -> None:
    """Make the schema ready. Creates it if it is missing and migrates it if it is older. `on_progress` reports the
    migration.

    Raises `ConfigurationError` for a server that cannot be used, `CorruptStoreError` for a schema with other tables,
    `SchemaTooNewError`, `ReadOnlyStoreError` and `StoreAccessDeniedError`. In these cases the database does not change.
    """
    scripts = migrations() if scripts is None else scripts
    _refuse_unusable_server(connection, url)
    version = _schema_version(connection, url)
    if version > scripts[-1].version:
        raise SchemaTooNewError(
            f"{url} has schema version {version}; this release supports up to {scripts[-1].version}. It was not changed;"
            " upgrade mnesis",
            db_path=url,
            found_version=version,
            supported_version=scripts[-1].version,
        )
    if version < scripts[-1].version:
        if read_only:
            if version == 0:
                raise ReadOnlyStoreError(
                    f"{url} has no tables of mnesis yet and is opened read-only; the first session creates them, or"
                    " `mnesis migrate`",
                    db_path=url,
                )
            raise ReadOnlyStoreError(
                f"{url} needs an update (schema version {version}, this release uses {scripts[-1].version}) but is opened"
                " read-only; run `mnesis migrate`",
                db_path=url,
            )
        _migrate(connection, url, scripts, key, on_progress)
    if not read_only:
        connection.execute(statements(url.schema)["continue_positions"])


def _refuse_unusable_server(connection: psycopg.Connection[Any], url: DatabaseURL) -> None:
    if connection.info.server_version < MIN_SERVER_VERSION:
        raise ConfigurationError(
            f"{url}: the server is PostgreSQL {connection.info.server_version // 10_000}, and mnesis needs"
            f" {MIN_SERVER_VERSION // 10_000} or later; upgrade the server, or use an SQLite file"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"{url}: the database has the encoding {encoding}, which cannot hold every text; create it with"
            " ENCODING 'UTF8' TEMPLATE template0"
        )


def _schema_version(connection: psycopg.Connection[Any], url: DatabaseURL) -> int:
    """Return the version of the schema, 0 if it is missing or empty. Raises `CorruptStoreError` for a schema of another
    program.
    """
    row = connection.execute("SELECT to_regclass(%s), to_regnamespace(%s)", (f"{url.schema}.mnesis_schema", url.schema))
    table, schema = row.fetchone() or (None, None)
    if table is not None:
        version = connection.execute(statements(url.schema)["schema_version"]).fetchone()
        if version is not None:
            return int(version[0])
    if schema is None:
        return 0
    count = connection.execute(
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s)", (url.schema,)
    ).fetchone()
    if count is not None and count[0]:
        raise CorruptStoreError(
            f"the schema {url.schema!r} of {url} holds {count[0]} objects that are not mnesis's. It was not changed; pass"
            " another schema=",
            db_path=url,
        )
    return 0


def _migrate(
    connection: psycopg.Connection[Any],
    url: DatabaseURL,
    scripts: Sequence[Migration],
    key: bytes | None,
    on_progress: OnHashed | None,
) -> None:
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"mnesis {url.schema}",))
            version = _schema_version(connection, url)
            if version == 0:
                _create_schema(connection, url.schema)
            for migration in scripts[version:]:
                connection.execute(migration.sql.replace("{schema}", url.schema).encode())
            if version < HASHES_VERSION <= scripts[-1].version:
                transaction = Transaction(connection, statements(url.schema), 0, str(url), key)
                add_missing_hashes(transaction, on_progress)
            parameters = {"version": scripts[-1].version}
            connection.execute(statements(url.schema)["set_schema_version"], parameters)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreAccessDeniedError(
            f"{url}: this role may not create or update the schema {url.schema!r} ({str(error).splitlines()[0]}); run"
            " `mnesis migrate` with the URL of its owner, then SELECT"
            f" {url.schema}.grant_access('<role>')",
            db_path=url,
        ) from error


def _create_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Create the schema unless an administrator did: CREATE SCHEMA needs a right on the database even if the schema
    exists.
    """
    row = connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone()
    if row is None or row[0] is None:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
