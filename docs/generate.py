"""Generator of the documentation's parts that come from the code: `python docs/generate.py`.

A part is between `<!-- generated: name -->` and `<!-- end of generated -->` in a page. docs/cli.md and docs/reference/commands-*.md are generated as a whole,
and so is mnesis/store/sqlite/migrations/base.sql. The output is deterministic; the tests compare the pages with it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import types
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from mnesis.cli.reference import command_pages
from mnesis.store.sqlite.base_schema import render_base_schema

DOCS = Path(__file__).parent
BASE_SCHEMA = DOCS.parent / "mnesis" / "store" / "sqlite" / "migrations" / "base.sql"
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)
EXTRA_MODULES = (
    "mnesis.sync",
    "mnesis.tools",
    "mnesis.files",
    "mnesis.operators",
    "mnesis.llm.base",
    "mnesis.inspect",
    "mnesis.mcp",
    "mnesis.telemetry",
    "mnesis.testing",
    "mnesis.errors",
)
# Types of arguments and results that the modules above do not export.
EXTRA_NAMES = (
    "mnesis.session.opening.OpeningSession",
    "mnesis.session.forked_turn.ForkedTurn",
    "mnesis.engine.follow.ChangeStream",
    "mnesis.formats.request.RequestMessages",
    "mnesis.events.change.Change",
    "mnesis.models.retention.PurgePlan",
    "mnesis.models.session.ForkPoint",
    "mnesis.models.session.Interruption",
    "mnesis.models.finding.Verification",
    "mnesis.models.finding.LogHead",
    "mnesis.models.finding.Finding",
    "mnesis.models.run.MapRun",
    "mnesis.models.dag.SummaryDag",
    "mnesis.models.dag.SummaryNode",
    "mnesis.models.timeline.Timeline",
    "mnesis.models.timeline.TimelineTurn",
    "mnesis.models.search.GrepGroup",
    "mnesis.models.search.GrepMatch",
    "mnesis.models.results.CacheReport",
    "mnesis.models.results.CompactionAttempt",
    "mnesis.models.sent_request.SentRequest",
    "mnesis.models.session.SessionRecord",
    "mnesis.store.base.SessionPage",
    "mnesis.store.base.Store",
    "mnesis.files.paging.FilePage",
    "mnesis.files.grep.FileMatch",
    "mnesis.files.grep.FileMatches",
    "mnesis.recall.grants.GrantUse",
    "mnesis.context.budget.SmallModelWarning",
)
# Pages of docs/reference: the first topic with a matching prefix shows a name.
TOPICS: dict[str, tuple[str, ...]] = {
    "sessions": (
        "mnesis.session",
        "mnesis.engine",
        "mnesis.sync",
        "mnesis.concurrency",
        "mnesis.models.sent_request",
        "mnesis.models.retention",
        "mnesis.models.session",
        "mnesis.models.finding",
        "mnesis.store",
    ),
    "messages": ("mnesis.models.message", "mnesis.formats.request"),
    "results": ("mnesis.models.results", "mnesis.models.usage", "mnesis.models.timeline"),
    "context": (
        "mnesis.models.context",
        "mnesis.models.summary",
        "mnesis.models.dag",
        "mnesis.context",
        "mnesis.tokens",
    ),
    "recall": ("mnesis.models.search", "mnesis.recall"),
    "maps": ("mnesis.operators", "mnesis.models.agents", "mnesis.models.map", "mnesis.models.run"),
    "files-and-tools": ("mnesis.files", "mnesis.models.tool", "mnesis.formats.tool_schemas"),
    "clients": ("mnesis.llm",),
    "configuration": ("mnesis.config",),
    "events": ("mnesis.events",),
    "errors": ("mnesis.errors",),
    "testing": ("mnesis.testing",),
    "inspector": ("mnesis.inspect", "mnesis.mcp", "mnesis.telemetry"),
}
BOUND_SIGNS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "at least {} character"}


def markdown_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Render a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def config_tables() -> str:
    """Render every class of `mnesis.config` with its fields, in the order of the module."""
    config = importlib.import_module("mnesis.config")
    classes = [
        cls
        for cls in vars(config).values()
        if inspect.isclass(cls) and cls.__module__ == config.__name__ and not cls.__name__.startswith("_")
    ]
    return "".join(f"\n### {cls.__name__}\n\n{_first_paragraph(cls)}\n\n{_fields(cls)}" for cls in classes) + "\n"


def _fields(cls: Any) -> str:
    rows = [
        (f"`{name}`", f"`{_type_name(field.annotation)}`", f"`{_default(field)}`", _bounds(field), _meaning(field))
        for name, field in cls.model_fields.items()
    ]
    return markdown_table(("field", "type", "default", "range", "meaning"), rows)


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "None"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type_name, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is not None and origin is not dict and arguments and not inspect.isclass(origin):
        return _type_name(arguments[0])
    if getattr(annotation, "__name__", "") == "Callable" or "Callable" in str(annotation):
        return "callable"
    return "dict" if origin is dict else str(getattr(annotation, "__name__", annotation))


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if hasattr(type(value), "model_fields"):
        return f"{type(value).__name__}()"
    if isinstance(value, Path):
        return str(value).replace(str(Path.home()), "~", 1)
    return f"{value:_}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _meaning(field: Any) -> str:
    """Return a field's description. A group of settings is described by its class."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
    return field.description or (_first_paragraph(kinds[0]) if kinds else "")


def _bounds(field: Any) -> str:
    bounds = [
        BOUND_SIGNS[key].format(f"{bound:,}" if isinstance(bound, int) else bound)
        for mark in field.metadata
        for key in BOUND_SIGNS
        if (bound := getattr(mark, key, None)) is not None
    ]
    return ", ".join(bounds)


def _first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def event_table() -> str:
    """Render every event with the fields of its payload."""
    from mnesis.events import payloads
    from mnesis.events.bus import MnesisEvent

    rows = []
    for event in MnesisEvent:
        payload = getattr(payloads, f"{event.name.title().replace('_', '')}Payload")
        fields = ", ".join(f"`{name}`" for name in payload.__dataclass_fields__)
        # A dataclass without a docstring has its signature as docstring.
        notes = "" if payload.__doc__.startswith(f"{payload.__name__}(") else inspect.getdoc(payload)
        rows.append((f"`{event.name}`", f"`{event.value}`", fields, " ".join(notes.split())))
    return markdown_table(("event", "`str(event)`", "payload", "notes"), rows)


def schema_table() -> str:
    """Render the versions of the database schema."""
    from mnesis.store.sqlite.migrate import migrations

    rows = [(str(each.version), _first_comment(each.sql)) for each in migrations()]
    return markdown_table(("schema", "what it brought"), rows)


def _first_comment(sql: str) -> str:
    lines = [line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--")]
    return lines[0].rstrip(".") if lines else ""


def example_table() -> str:
    """Render every example with the first line of its docstring."""
    rows = [(f"`{path.name}`", _first_sentence(path)) for path in sorted((DOCS.parent / "examples").glob("[0-9]*.py"))]
    return markdown_table(("file", "what it shows"), rows)


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.splitlines()[0].rstrip(".") if text else ""


def notebook_table() -> str:
    """Render every notebook with its title."""
    rows = [(f"`{path.name}`", _title(path)) for path in sorted((DOCS.parent / "notebooks").glob("[0-9]*.ipynb"))]
    return markdown_table(("notebook", "title"), rows)


def _title(path: Path) -> str:
    first = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
    return "".join(first).splitlines()[0].lstrip("# ")


# Classes with public methods in a base class.
_WITH_INHERITED = "    options:\n      inherited_members: true\n"
INHERITED = {"MnesisSession": _WITH_INHERITED, "AgentOptions": _WITH_INHERITED}


def _public_names() -> Iterator[str]:
    """Yield the full name of everything public, each once: `mnesis`, then further modules, then what methods return."""
    import mnesis

    yield from (f"{mnesis._MODULES[name]}.{name}" for name in mnesis.__all__)
    for module in EXTRA_MODULES:
        yield from _names_of(module, without=mnesis.__all__)
    yield from EXTRA_NAMES


def _topic(full_name: str) -> str:
    for topic, prefixes in TOPICS.items():
        if full_name.startswith(tuple(f"{prefix}." for prefix in prefixes)):
            return topic
    raise LookupError(f"{full_name} has no topic; add its module to TOPICS")


def api_topic(topic: str) -> str:
    """Render the public names of the core that belong to one topic, sorted by name."""
    names = sorted(
        {name for name in _public_names() if _topic(name) == topic}, key=lambda name: name.rpartition(".")[2]
    )
    return "".join(f"\n::: {name}\n{INHERITED.get(name.rpartition('.')[2], '')}" for name in names)


def api_module(module: str) -> str:
    """Render the public names of one module."""
    return "".join(f"\n::: {name}\n" for name in _names_of(module))


def _names_of(module: str, without: Collection[str] = ()) -> list[str]:
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == module
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]
    things = [getattr(loaded, name) for name in names if name not in without]
    return [f"{thing.__module__}.{thing.__qualname__}" for thing in things]


PARTS: dict[str, Callable[[], str]] = {
    "config": config_tables,
    "events": event_table,
    "schema": schema_table,
    "examples": example_table,
    "notebooks": notebook_table,
    "api-langchain": partial(api_module, "langchain_mnesis"),
    "api-llamaindex": partial(api_module, "llama_index.memory.mnesis"),
    "api-openai-agents": partial(api_module, "agents_mnesis"),
    "api-pydantic-ai": partial(api_module, "pydantic_ai_mnesis"),
    **{f"api-{topic}": partial(api_topic, topic) for topic in TOPICS},
}


def render_parts(text: str) -> str:
    """Return a page with its generated parts updated."""
    return PART.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]().strip()}\n\n{match[3]}", text)


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield the pages that differ from the code, each with its new text."""
    whole_pages = {BASE_SCHEMA: render_base_schema(), **{DOCS / name: text for name, text in command_pages().items()}}
    for page in sorted({*DOCS.rglob("*.md"), *whole_pages}):
        text = page.read_text("utf-8") if page.exists() else ""
        new = whole_pages.get(page) or render_parts(text)
        if new != text:
            yield page, new


if __name__ == "__main__":
    for page, text in stale_pages():
        page.write_text(text, "utf-8")
        print(page)
