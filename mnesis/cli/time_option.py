"""Moments as people type them, for options such as `--since`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no argument here
    """A date or time (ISO 8601, local unless it names a zone), or how long ago: `30m`, `12h`, `7d`, `2w`.

    Gives milliseconds since 1970.
    """

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment that `value` names."""
        if isinstance(value, int):
            return value
        try:
            return int(_moment(value, datetime.now().astimezone()).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time; write 2026-03-01, 2026-03-01T14:30, or 30m, 12h, 7d, 2w ago", param, ctx)


def _moment(text: str, now: datetime) -> datetime:
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return datetime.fromisoformat(text).astimezone()


MOMENT = Moment()
