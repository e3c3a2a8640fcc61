"""What `--json` and `--jsonl` print: a table with an entry per command, as JSON Schema and as text for people.

In the table a string names a type (`?`: or null), a dict is an object with exactly these fields (`name?`: may be missing,
`*`: any other name, `...`: the fields of another type), a list is an array of its item, and a tuple lists alternatives. A type
with a capital letter is a class of mnesis, whose fields are read from the class. A command that prints JSON and has no entry
here fails the tests, and so does a field that is printed and not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

Notation = str | dict[str, Any] | list[Any] | tuple[Any, ...]
SCALARS = ("string", "integer", "number", "boolean", "object", "null")
CLASSES = {
    "Budget": "mnesis.models.context",
    "CompactionResult": "mnesis.models.results",
    "FoundMessage": "mnesis.demo.replay",
    "Finding": "mnesis.models.finding",
    "LogHead": "mnesis.models.finding",
    "Interruption": "mnesis.models.session",
    "Message": "mnesis.models.message",
    "SearchHit": "mnesis.models.search",
    "Summary": "mnesis.models.summary",
    "TimelineTurn": "mnesis.models.timeline",
    "TokenUsage": "mnesis.models.usage",
    "WindowSnapshot": "mnesis.demo.replay",
}


@dataclass(frozen=True, slots=True)
class JsonOutput:
    """The document of `--json`, and one line of `--jsonl`. None if the command has no such option."""

    document: Notation | None = None
    line: Notation | None = None


_SESSION: Notation = {
    "id": "string", "title": "string", "model": "string", "agent": "string", "parent_id": "string?", "depth": "integer",
    "messages": "integer", "turns": "integer", "context_tokens": "integer", "compactions": "integer",
    "created_at": "integer", "updated_at": "integer", "damage": "string?", "forked_from": "string?",
    "shared_messages": "integer",
}  # fmt: skip
_SHOWN_MESSAGE: Notation = {
    "...": "Message", "in_context": "boolean", "summary_id": "string?", "pruned_parts": ["integer"],
}  # fmt: skip
_SUMMARY_NODE: Notation = {
    "id": "string", "kind": "string", "depth": "integer", "level": "integer", "tokens": "integer",
    "source_tokens": "integer", "first_seq": "integer", "last_seq": "integer", "message_count": "integer",
    "in_context": "boolean", "preview": "string", "children": ["object"],
}  # fmt: skip
_MATCH: Notation = {
    "session_id": "string", "summary_id": "string?", "message_id": "string", "seq": "integer", "role": "string",
    "start": "integer", "end": "integer", "text": "string", "line": "string", "before": ["string"], "after": ["string"],
}  # fmt: skip
_HIT: Notation = {
    "message_id": "string", "session_id": "string", "seq": "integer", "role": "string", "created_at": "integer",
    "score": "number", "excerpt": "string", "summary_id": "string?",
}  # fmt: skip
_CHILD_SUMMARY: Notation = {"...": "Summary", "below": "integer"}
_DATABASE: Notation = {"database": "string"}

_SALVAGED: Notation = {
    "session_id": "string", "message_count": "integer", "gaps": [["integer"]], "settings_are_intact": "boolean",
    "summary_count": "integer", "lost_summaries": ["string"], "damaged_records": ["string"],
}  # fmt: skip
_SALVAGED_RUN: Notation = {
    "run_id": "string", "is_copied": "boolean", "item_count": "integer", "pending_items": ["integer"],
}  # fmt: skip

OUTPUTS: dict[str, JsonOutput] = {
    "demo": JsonOutput(
        {
            "session_id": "string", "turns": "integer", "characters": "integer", "summariser": "string",
            "budget": "Budget", "context_tokens": [["integer?"]],
            "compactions": [{"turn": "integer", "...": "CompactionResult"}],
            "before": ("WindowSnapshot", "null"), "after": ("WindowSnapshot", "null"), "fact": ("FoundMessage", "null"),
            "checks": [{"name": "string", "held": "boolean", "detail": "string"}],
            "all_held": "boolean", "elapsed_seconds": "number",
        }
    ),
    "chat": JsonOutput(
        line=(
            {
                "user": "string?", "assistant": "string", "finish_reason": "string", "usage": "TokenUsage",
                "cost": "number", "context_tokens": "integer", "compaction": ("CompactionResult", "null"),
            },
            {"user": "string?", "error_type": "string", "error": "string"},
        )
    ),
    "ls": JsonOutput([_SESSION], _SESSION),
    "show": JsonOutput(
        {"session_id": "string", "messages": [_SHOWN_MESSAGE], "interruptions": ["Interruption"]}, _SHOWN_MESSAGE
    ),
    "context": JsonOutput(
        {
            "session_id": "string", "model": "string", "context_tokens": "integer", "window_tokens": "integer",
            "window_messages": "integer", "omitted_messages": "integer",
            "shares": {"system": "integer", "summaries": "integer", "messages": "integer", "tool_outputs": "integer"},
            "free_tokens": "integer", "budget": "Budget",
        }
    ),
    "dag": JsonOutput({"session_id": "string", "summaries": [_SUMMARY_NODE]}),
    "timeline": JsonOutput(
        {"session_id": "string", "budget": ("Budget", "null"), "turns": ["TimelineTurn"]}, "TimelineTurn"
    ),
    "search": JsonOutput({"hits": [_HIT], "next_cursor": "string?"}, _HIT),
    "grep": JsonOutput(
        {"matches": [_MATCH], "complete": "boolean", "stopped": "string", "next_cursor": "string?"}, _MATCH
    ),
    "expand": JsonOutput(
        {
            "session_id": "string", "id": "string", "messages?": ["Message"], "summaries?": [_CHILD_SUMMARY],
            "next_seq": "integer?",
        },
        ("Message", _CHILD_SUMMARY),
    ),
    "stats": JsonOutput(
        {
            "sessions": "integer", "messages": "integer", "turns": "integer", "context_tokens": "integer",
            "usage": "TokenUsage", "cache_share": "number?", "cost": "number", "compactions": "integer",
            "compaction_cost": "number", "pruned_outputs": "integer",
            "levels": {
                "*": {"summaries": "integer", "source_tokens": "integer", "tokens": "integer", "ratio": "number?"}
            },
            "failures": {"*": "integer"}, "cancelled": "integer", "stored_files": "integer",
            "map_runs?": {
                "runs": "integer", "finished": "integer", "items": "integer", "done": "integer", "failed": "integer",
                "cost": "number", "usage": "TokenUsage",
            },
            "database": "string", "database_bytes": "integer", "wal_bytes": "integer",
        }
    ),
    "worker": JsonOutput(
        {
            "id": "string", "kind": "string", "fingerprint": "string", "model": "string", "created_at": "integer",
            "total": "integer?", "pending": "integer", "running": "integer", "done": "integer", "failed": "integer",
            "attempts": "integer", "usage": "TokenUsage", "cost": "number",
        }
    ),
    "import": JsonOutput({"session_id": "string", "messages": "integer"}),
    "compact": JsonOutput(
        (
            "CompactionResult",
            {
                "session_id": "string", "dry_run": "boolean", "context_tokens": "integer",
                "folds": [
                    {"first_seq": "integer", "last_seq": "integer", "messages": "integer", "tokens": "integer"}
                ],
                "pruned_tool_outputs": "integer", "pruned_tokens": "integer",
            },
        )
    ),
    "fork": JsonOutput(
        {
            "session_id": "string", "forked_from": "string?", "shared_messages": "integer", "message_id": "string?",
        }
    ),
    "purge": JsonOutput(
        {
            "session_id": "string", "applied": "boolean", "messages": "integer", "turns": "integer",
            "summaries": "integer", "child_session_ids": ["string"], "fork_ids": ["string"], "unreferenced_file_ids": ["string"],
            "files_erased": "boolean",
        }
    ),
    "doctor": JsonOutput(["Finding"]),
    "verify": JsonOutput({"heads": ["LogHead"], "findings": ["Finding"]}),
    "seal": JsonOutput({"sealed": "integer"}),
    "salvage": JsonOutput({"path": "string", "sessions": [_SALVAGED], "runs": [_SALVAGED_RUN], "lost_messages": "integer", "is_complete": "boolean"}),
    "backup": JsonOutput(
        {
            "database": "string", "file": "string", "bytes": "integer", "encrypted": "boolean", "files?": "integer",
            "files_to?": "string",
        }
    ),
    "rekey": JsonOutput({"database": "string", "files": "integer"}),
    "reindex": JsonOutput(_DATABASE),
    "migrate": JsonOutput(_DATABASE),
}  # fmt: skip
"""By command. Times are in milliseconds since 1970, costs in US dollars."""


def json_schema(notation: Notation) -> dict[str, Any]:
    """Return a notation as JSON Schema (draft 2020-12), with the classes it names as definitions."""
    definitions: dict[str, Any] = {}
    schema = _schema(notation, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _schema(notation: Notation, definitions: dict[str, Any]) -> dict[str, Any]:
    if isinstance(notation, tuple):
        return {"anyOf": [_schema(each, definitions) for each in notation]}
    if isinstance(notation, list):
        return {"type": "array", "items": _schema(notation[0], definitions)}
    if isinstance(notation, str):
        return _named_schema(notation, definitions)
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for name, value in notation.items():
        if name == "...":
            _named_schema(value, definitions)
            schema["properties"] |= definitions[value]["properties"]
            schema["required"] += definitions[value]["required"] if value == "Message" else []
        elif name == "*":
            schema["additionalProperties"] = _schema(value, definitions)
        else:
            schema["properties"][name.removesuffix("?")] = _schema(value, definitions)
            schema["required"] += [] if name.endswith("?") else [name]
    return schema


def _named_schema(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    kind = name.removesuffix("?")
    if kind in SCALARS:
        return {"type": [kind, "null"] if name.endswith("?") else kind}
    if kind not in definitions:
        definitions |= _class_schemas(kind)
    return {"$ref": f"#/$defs/{kind}"}


def _class_schemas(name: str) -> dict[str, Any]:
    """Return the schema of a class, closed for other fields, and of the classes it refers to, by name."""
    from pydantic import TypeAdapter

    kind = getattr(import_module(CLASSES[name]), name)
    # The schema of the fields themselves, because a schema cannot express what a serializer does.
    schema = TypeAdapter(kind).json_schema(mode="validation", ref_template="#/$defs/{model}")
    nested = schema.pop("$defs", {})
    schema["additionalProperties"] = False
    if "CompactionAttempt" in nested:  # writes its fields itself
        nested["CompactionAttempt"] = {"type": "object", "required": ["level"]}
    if name == "Message":
        # Fields with their default are omitted. The content of a part depends on its type.
        schema["properties"]["parts"] = {"type": "array", "items": {"type": "object", "required": ["type"]}}
        schema["properties"].pop("session_id")
        schema["required"] = ["id", "role", "parts"]
        return {name: schema, "TokenUsage": nested["TokenUsage"]}
    return {name: schema, **nested}


def describe(notation: Notation, indent: str = "") -> str:
    """Return a notation as text, one field per line."""
    if isinstance(notation, str):
        return f"{notation[:-1]} | null" if notation.endswith("?") else notation
    if isinstance(notation, tuple):
        return " | ".join(describe(each, indent) for each in notation)
    if isinstance(notation, list):
        return f"[{describe(notation[0], indent)}]"
    inner = f"{indent}  "
    lines = []
    for name, value in notation.items():
        text = describe(value, inner)
        lines.append(f"{inner}{'the fields of ' + text if name == '...' else f'{name}: {text}'}")
    return "{\n" + "\n".join(lines) + f"\n{indent}}}"
