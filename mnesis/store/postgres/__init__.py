"""The PostgreSQL store. It needs `pip install 'mnesis-context[postgres]'`."""

from mnesis.errors import ConfigurationError

try:
    from mnesis.store.postgres.store import PostgresStore
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("psycopg", "psycopg_pool"):
        raise
    raise ConfigurationError(
        "a PostgreSQL database needs psycopg; run pip install 'mnesis-context[postgres]'"
    ) from error

__all__ = ["PostgresStore"]
