"""Small values that satisfy a JSON Schema. Deterministic, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 50
FORMAT_EXAMPLES = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "mock@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def minimal_value(schema: Any) -> Any:
    """Return a small value that satisfies the schema.

    Patterns and conflicting combinations are not supported; the value may then not satisfy the schema.
    """
    return _value(schema, schema, 0)


def _value(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return None
    schema = _resolve_references(schema, root, depth)
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    for name in ("enum", "examples"):
        if schema.get(name):
            return schema[name][0]
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            rest = {key: value for key, value in schema.items() if key != name}
            return _value({**rest, **_simplest_choice(schema[name], root)}, root, depth + 1)
    return _value_of_type(schema, root, depth)


def _resolve_references(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """Return the schema with its `$ref` and `allOf` merged into it."""
    merged = dict(schema)
    parts = [_referenced_schema(root, merged.pop("$ref"))] if "$ref" in merged else []
    for part in [*parts, *merged.pop("allOf", ())]:
        if isinstance(part, Mapping) and depth < MAX_DEPTH:
            part = _resolve_references(part, root, depth + 1)
            both = {**part.get("properties", {}), **merged.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "properties": both, "required": required}
    return merged


def _referenced_schema(root: Any, reference: Any) -> Any:
    """Return the schema that a local reference points to.

    For other references, return an empty schema.
    """
    target = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        target = target.get(name, {}) if isinstance(target, Mapping) else {}
    return target if str(reference).startswith("#") else {}


def _simplest_choice(choices: Any, root: Any) -> dict[str, Any]:
    """Return the null choice if there is one, otherwise the first choice."""
    choices = [_resolve_references(choice, root, 0) for choice in choices if isinstance(choice, Mapping)] or [{}]
    return next((choice for choice in choices if choice.get("type") == "null"), choices[0])


def _value_of_type(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or (kind is None and ("properties" in schema or "required" in schema)):
        properties = schema.get("properties", {})
        return {name: _value(properties.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        items = list(schema.get("prefixItems", ()))
        items += [schema.get("items", {})] * (schema.get("minItems", 0) - len(items))
        return [_value(item, root, depth + 1) for item in items[: max(schema.get("minItems", 0), 0)]]
    if kind == "string":
        text = FORMAT_EXAMPLES.get(schema.get("format", ""), "mock"[: schema.get("maxLength", 4)])
        return text.ljust(schema.get("minLength", 0), "x")
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return {"boolean": False, "null": None}.get(str(kind), "mock" if kind is None else None)


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    multiple_of = schema.get("multipleOf", 1 if whole else None)
    minimum = schema.get("minimum", -math.inf)
    exclusive_minimum = schema.get("exclusiveMinimum", -math.inf)
    maximum = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if minimum <= 0 and exclusive_minimum < 0 and (maximum > 0 or maximum == schema.get("maximum") == 0):
        return 0
    if max(minimum, exclusive_minimum) == -math.inf:
        lowest: float = maximum - 1 if multiple_of is None else math.floor((maximum - 1) / multiple_of) * multiple_of
        return lowest
    if multiple_of is None:
        return (
            float(minimum)
            if minimum > exclusive_minimum
            else float(exclusive_minimum + min(1.0, (maximum - exclusive_minimum) / 2))
        )
    factor = math.ceil(max(minimum, exclusive_minimum) / multiple_of)
    return (
        float(factor * multiple_of)
        if not whole
        else int((factor + (factor * multiple_of <= exclusive_minimum)) * multiple_of)
    )
