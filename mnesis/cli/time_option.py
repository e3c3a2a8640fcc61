"""The parameter type of options that take a time, such as `--since`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

_RELATIVE_TIME = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class TimeParam(click.ParamType):  # type: ignore[type-arg]  # older releases of click take no type argument
    """A date or time (ISO 8601, local unless it has a time zone) or an age: `30m`, `12h`, `7d`, `2w`.

    The value is in milliseconds since 1970.
    """

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert `value` to milliseconds since 1970. An integer is returned unchanged."""
        if isinstance(value, int):
            return value
        try:
            return int(_parse_time(value, datetime.now().astimezone()).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} is not a time; write 2026-03-01, 2026-03-01T14:30, or an age: 30m, 12h, 7d, 2w", param, ctx
            )


def _parse_time(text: str, now: datetime) -> datetime:
    if ago := _RELATIVE_TIME.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return datetime.fromisoformat(text).astimezone()


TIME_PARAM = TimeParam()
