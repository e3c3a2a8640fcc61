"""A value that satisfies a JSON Schema, as small as one can easily be. Deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 50
FORMATS = {
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


def smallest(schema: Any) -> Any:
    """The value. Patterns and combinations that exclude each other are beyond it; what it gives then may not satisfy them."""
    return _value(schema, schema, 0)


def _value(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return None
    schema = _merged(schema, root, depth)
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    for name in ("enum", "examples"):
        if schema.get(name):
            return schema[name][0]
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            rest = {key: value for key, value in schema.items() if key != name}
            return _value({**rest, **_simplest(schema[name], root)}, root, depth + 1)
    return _typed(schema, root, depth)


def _merged(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """The schema with its reference and `allOf` written into it."""
    merged = dict(schema)
    parts = [_target(root, merged.pop("$ref"))] if "$ref" in merged else []
    for part in [*parts, *merged.pop("allOf", ())]:
        if isinstance(part, Mapping) and depth < MAX_DEPTH:
            part = _merged(part, root, depth + 1)
            both = {**part.get("properties", {}), **merged.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "properties": both, "required": required}
    return merged


def _target(root: Any, reference: Any) -> Any:
    """What a reference inside the schema leads to; an empty schema for any other."""
    found = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if str(reference).startswith("#") else {}


def _simplest(choices: Any, root: Any) -> dict[str, Any]:
    """null where it may be, else the first choice."""
    choices = [_merged(choice, root, 0) for choice in choices if isinstance(choice, Mapping)] or [{}]
    return next((choice for choice in choices if choice.get("type") == "null"), choices[0])


def _typed(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
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
        text = FORMATS.get(schema.get("format", ""), "mock"[: schema.get("maxLength", 4)])
        return text.ljust(schema.get("minLength", 0), "x")
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return {"boolean": False, "null": None}.get(str(kind), "mock" if kind is None else None)


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf", 1 if whole else None)
    low = schema.get("minimum", -math.inf)
    above = schema.get("exclusiveMinimum", -math.inf)
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if low <= 0 and above < 0 and (high > 0 or high == schema.get("maximum") == 0):
        return 0
    if max(low, above) == -math.inf:
        lowest: float = high - 1 if step is None else math.floor((high - 1) / step) * step
        return lowest
    if step is None:
        return float(low) if low > above else float(above + min(1.0, (high - above) / 2))
    count = math.ceil(max(low, above) / step)
    return float(count * step) if not whole else int((count + (count * step <= above)) * step)
