"""Loopback servers that accept and refuse requests like the real provider APIs."""
