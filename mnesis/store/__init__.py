"""Where conversations are kept: one protocol, an SQLite and an in-memory implementation."""
