"""The engine: a database with its event bus and model client, shared by any number of sessions."""

from mnesis.engine.engine import Engine

__all__ = ["Engine"]
