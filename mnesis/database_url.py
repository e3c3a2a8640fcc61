"""URLs of PostgreSQL databases, whose text never contains a password. Pure functions, no I/O."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, quote, urlencode

from mnesis.errors import ConfigurationError

SCHEMES = ("postgresql://", "postgres://")
DEFAULT_SCHEMA = "mnesis"
MAX_IDENTIFIER_BYTES = 63
"""The length of the longest name in PostgreSQL (NAMEDATALEN - 1), which truncates longer names."""

_SCHEMA_NAME = re.compile(rf"[a-z_][a-z0-9_]{{0,{MAX_IDENTIFIER_BYTES - 1}}}")
_PASSWORD = re.compile(r"(?P<before>//[^/?#:@]*):[^/?#]*(?=@)")
_SECRET_PARAMETER = re.compile("passw|pwd|secret|token|^scram_(client|server)_key$")
"""Names of parameters that are not shown: those of libpq, and similar names that a user may confuse with them."""
_OTHER_URL = re.compile(r"\s*([a-z][a-z0-9+.:-]+:/{2,}|postgres[a-z0-9+]*:)", re.IGNORECASE)
_OWN_PARAMETERS = ("schema", "pgbouncer")


class DatabaseURL(str):
    """A PostgreSQL URL. As a string it has no password, so it is safe in errors, logs and `repr`.

    `conninfo` is the URL for libpq, with the password. Two parameters belong to mnesis: `schema=` names the schema of its
    tables, and `pgbouncer=true` says that a pooler shares connections between transactions.
    """

    __slots__ = ("conninfo", "schema", "uses_pgbouncer")

    conninfo: str
    schema: str
    uses_pgbouncer: bool

    def __new__(cls, text: str) -> DatabaseURL:
        """Parse a URL. Raises `ConfigurationError`, which does not show the password."""
        if isinstance(text, DatabaseURL):
            return text
        refuse_other_url(text)
        _refuse_unescaped(text)
        base, _, query = text.partition("?")
        parameters = parse_qsl(query, keep_blank_values=True)
        shown = [(name, value) for name, value in parameters if not _SECRET_PARAMETER.search(name)]
        url = super().__new__(cls, _join(_PASSWORD.sub(r"\g<before>", base), shown))
        values = dict(parameters)
        url.conninfo = _join(base, [(name, value) for name, value in parameters if name not in _OWN_PARAMETERS])
        url.schema = values.get("schema", DEFAULT_SCHEMA)
        url.uses_pgbouncer = values.get("pgbouncer") == "true"
        _check_schema(url)
        if values.get("pgbouncer", "false") not in ("true", "false"):
            raise ConfigurationError(f"{url}: pgbouncer must be true or false, not {values['pgbouncer']!r}")
        return url

    def __reduce__(self) -> tuple[object, ...]:
        base, _, query = self.conninfo.partition("?")
        own = [("schema", self.schema), ("pgbouncer", "true" if self.uses_pgbouncer else "false")]
        return DatabaseURL, (_join(base, [*parse_qsl(query, keep_blank_values=True), *own]),)


def is_database_url(database: object) -> bool:
    """Return whether a database is named by a PostgreSQL URL, not by the path of a file."""
    return isinstance(database, str) and database.lower().startswith(SCHEMES)


def refuse_other_url(database: str) -> None:
    """Raise `ConfigurationError` for a URL that is not a PostgreSQL URL, such as one of SQLAlchemy.

    Used as a path, it would create a directory with the password in its name.
    """
    if not is_database_url(database) and (other := _OTHER_URL.match(database)):
        raise ConfigurationError(
            f"the URL of the database begins with {other[0]!r}, which is neither a path nor a PostgreSQL URL; pass"
            " postgresql://user@host/database, or the path of an SQLite file"
        )


def database_exists(database: str | os.PathLike[str]) -> bool:
    """Return whether a database file exists. A URL counts as existing: opening the database asks its server."""
    return is_database_url(database) or os.path.exists(database)


def is_same_database(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths or URLs name the same database."""
    if is_database_url(one) or is_database_url(other):
        return DatabaseURL(os.fspath(one)) == DatabaseURL(os.fspath(other))
    return _real_path(one) == _real_path(other)


def _real_path(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(os.path.expanduser(os.fspath(path)))


def _refuse_unescaped(text: str) -> None:
    """Raise `ConfigurationError` for a URL whose password cannot be separated from the rest. The error does not repeat
    the URL.

    libpq would take a part of the password for a host, a database or a token, and name it in its error
    (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
    """
    location, _, query = text.partition("//")[2].partition("?")
    authority = re.split("[/#]", location, maxsplit=1)[0]
    is_ambiguous = (
        authority.count("@") > 1
        or "@" in location[len(authority) :]
        or any("@" in each.partition("=")[0] for each in query.split("&"))
        or re.search(r"%(?![0-9A-Fa-f]{2})|%00", text)
        or re.search(r"\s", location)
    )
    if is_ambiguous:
        raise ConfigurationError(
            "the URL of the database has a character that must be escaped: in a user, password or other value, write @ as %40,"
            " / as %2F, ? as %3F, # as %23, : as %3A, % as %25 and a space as %20"
        )


def _check_schema(url: DatabaseURL) -> None:
    if not _SCHEMA_NAME.fullmatch(url.schema) or url.schema.startswith("pg_") or url.schema == "information_schema":
        raise ConfigurationError(
            f"{url} names the schema {url.schema!r}; a name has 1 to {MAX_IDENTIFIER_BYTES} lower-case letters, digits and"
            f" underscores, and does not belong to PostgreSQL. Pass schema={DEFAULT_SCHEMA} or omit it"
        )


def _join(base: str, parameters: list[tuple[str, str]]) -> str:
    return f"{base}?{urlencode(parameters, quote_via=quote)}" if parameters else base
