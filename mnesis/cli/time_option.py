"""The parameter type of options that take a time, such as `--since`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from mnesis.errors import ConfigurationError


class TimeParam(click.ParamType):  # type: ignore[type-arg]  # older releases of click take no type argument
    """A date or time (ISO 8601, local unless it has a time zone), an age (`30m`, `7d`) or an expression ("last week").

    The value is in milliseconds since 1970.
    """

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert `value` to milliseconds since 1970. A number is returned unchanged."""
        if isinstance(value, int | float):
            return value
        from mnesis.search.time_parameters import resolve_times

        try:
            return resolve_times(after=value, now=datetime.now().astimezone()).after or 0
        except ConfigurationError:
            self.fail(
                f"{value!r} is not a time; write 2026-03-01, 2026-03-01T14:30, an age (30m, 12h, 7d, 2w) or 'last week'",
                param,
                ctx,
            )


TIME_PARAM = TimeParam()
