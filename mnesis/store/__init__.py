"""The stores of conversations: one protocol, with implementations for SQLite, PostgreSQL and memory."""
