"""Checks of arguments. Pure functions, no I/O. Each raises `ConfigurationError` with the name and the value."""

from __future__ import annotations

from mnesis.errors import ConfigurationError


def check_integer(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raise `ConfigurationError` unless `value` is an integer in the range. `True` and `False` are not integers."""
    if not isinstance(value, bool) and isinstance(value, int) and least <= value and (most is None or value <= most):
        return
    expected = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ConfigurationError(f"{name} must be an integer {expected}, not {value!r:.80}")


def check_seconds(name: str, value: object, *, least: float = 0.001) -> None:
    """Raise `ConfigurationError` unless `value` is a usable number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e7:
        raise ConfigurationError(f"{name} must be a number of seconds of at least {least:g}, not {value!r:.80}")


def check_string(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` is a string."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, not {value!r:.100}")
