"""Checks of arguments. Pure functions, no I/O."""

from __future__ import annotations

from mnesis.errors import ConfigurationError

MAX_SECONDS = 1e7  # 115 days


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Raise `ConfigurationError` unless `value` is an integer in the range. `True` and `False` are not integers."""
    if _is_integer(value, minimum, maximum):
        return
    expected = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    raise ConfigurationError(f"{name} must be an integer {expected}, not {value!r:.80}")


def check_seconds(name: str, value: object, *, minimum: float = 0.001) -> None:
    """Raise `ConfigurationError` unless `value` is a number of seconds from `minimum` to `MAX_SECONDS`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= MAX_SECONDS:
        raise ConfigurationError(f"{name} must be a number of seconds of at least {minimum:g}, not {value!r:.80}")


def check_string(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` is a string."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, not {value!r:.100}")


def _is_integer(value: object, minimum: int, maximum: int | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return minimum <= value and (maximum is None or value <= maximum)
