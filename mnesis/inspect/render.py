"""The template environment: escaping, and the filters of the templates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mnesis.display.text import clean, format_time, one_line
from mnesis.formats.text import call_arguments
from mnesis.inspect import paths
from mnesis.inspect.views.log import image_source


@cache
def environment() -> Environment:
    """Return the environment. Every value is escaped, and characters that reorder or hide text are replaced."""
    templates = Environment(
        loader=PackageLoader("mnesis.inspect"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        arguments=call_arguments,
        image=image_source,
        iso=_iso_time,
        json=_indented_json,
        money=_money,
        n=_grouped,
        oneline=one_line,
        percent=_percent,
        when=format_time,
    )
    for name in ("encode_id", "session_path", "message_path", "summary_path", "file_path", "run_path"):
        templates.globals[name] = getattr(paths, name)
    return templates


def render(template: str, **values: Any) -> str:
    """Render a template. Text is encodable: lone surrogates are replaced."""
    return environment().get_template(template).render(values).encode("utf-8", "replace").decode()


def _clean_value(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value)
    return value


def _grouped(number: float) -> str:
    return f"{number:,}"


def _money(dollars: float) -> str:
    return f"${dollars:,.4f}" if dollars else "–"


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction:.0%}"


def _iso_time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return ""


def _indented_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
