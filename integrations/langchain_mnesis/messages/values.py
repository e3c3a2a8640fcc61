"""Exact conversion of Python values to JSON and back. A class is never built because stored data names it.

JSON values are unchanged. Any other value becomes `{"$mn": kind, "v": …}`. A dict that has such a key itself is written
as pairs, so user data cannot imitate a tag. Arrays of numpy and frames of pandas come back unchanged. Objects of other
classes (pydantic models, dataclasses, enums) are restored only if the reader lists their class; otherwise their plain
values are returned. A value that cannot be written is kept as an `Unserialisable` with its class name and repr.
`changed_types` lists the values that will not come back unchanged.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import enum
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, partial
from typing import Any
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from langchain_mnesis.messages.arrays import dump_library_value, library_kind, load_library_value

TAG = "$mn"
MAX_DEPTH = 60
"""How deeply containers may be nested. The store accepts 200 levels of JSON, and one container takes up to three."""
MAX_REPR_CHARS = 1_000
_NO_DEFAULT = object()
_JSON_INTEGERS = range(-(2**63), 2**63)

Types = dict[str, type]
"""Classes that a reader allows, by their stored names."""


@dataclass(frozen=True, slots=True)
class Unserialisable:
    """A placeholder for a value that could not be stored: the name of its class and the beginning of its repr."""

    type_name: str
    text: str


def types_by_name(types: Iterable[type]) -> Types:
    """Index classes by their stored names."""
    return {type_name(kind): kind for kind in types}


def type_name(kind: type) -> str:
    """Return the name under which a class is stored."""
    return f"{kind.__module__}:{kind.__qualname__}"


def dump_value(value: Any, depth: int = 0) -> Any:
    """Convert any value to JSON. Never raises."""
    if value is None or type(value) in (str, bool):
        return value
    if depth > MAX_DEPTH:
        return _dump_opaque(value)
    if type(value) is int:
        return value if value in _JSON_INTEGERS else _tag("int", hex(value))
    if type(value) is float:
        return value if math.isfinite(value) else _tag("float", repr(value))
    if isinstance(value, dict):
        return _dump_dict(value, depth)
    if type(value) is list:
        return [dump_value(item, depth + 1) for item in value]
    for kind, name, dump in _SCALARS:
        if type(value) is kind:
            return _tag(name, dump(value))
    if (library := library_kind(value)) is not None:
        return _dump_library_value(library, value, depth)
    return _dump_object(value, depth)


def load_value(data: Any, types: Types) -> Any:
    """Convert JSON of `dump_value` back to a value.

    Raises ValueError if `dump_value` cannot have written the data.
    """
    if isinstance(data, list):
        return [load_value(item, types) for item in data]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {key: load_value(item, types) for key, item in data.items()}
    load = _LOADERS.get(data[TAG])
    if load is None:
        raise ValueError(f"unknown kind of stored value: {data[TAG]!r}")
    return load(data, types)


def changed_types(data: Any, types: Types) -> set[str]:
    """Return the names of the classes in JSON of `dump_value` whose objects come back changed."""
    if isinstance(data, list):
        return {name for item in data for name in changed_types(item, types)}
    if not isinstance(data, dict):
        return set()
    names = {name for item in data.values() for name in changed_types(item, types)}
    kind, name = data.get(TAG), data.get("type")
    if kind == "opaque" or (kind in ("model", "dataclass", "enum") and name not in types):
        names.add(str(name))
    return names


def dump_model(value: BaseModel, depth: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's fields that differ from their defaults, and its extra fields, both as JSON."""
    defaults = _defaults(type(value))
    fields = {
        name: dump_value(item, depth + 1)
        for name, item in value.__dict__.items()
        if name in defaults and not _is_default(defaults[name], item)
    }
    extra = value.__pydantic_extra__ or {}
    return fields, {name: dump_value(item, depth + 1) for name, item in extra.items()}


def build_model(kind: type[BaseModel], fields: dict[str, Any], extra: dict[str, Any]) -> Any:
    """Build a model with exactly these values. The values are not validated, so none is changed."""
    missing = {name: default_factory() for name, default_factory in _default_factories(kind) if name not in fields}
    instance = kind.model_construct(_fields_set=set(fields), **missing, **fields)
    if extra:
        object.__setattr__(instance, "__pydantic_extra__", dict(extra))
    return instance


@cache
def _default_factories(kind: type[BaseModel]) -> list[tuple[str, Callable[[], Any]]]:
    """Return a factory for each default. Pydantic derives these again at each construction, at ten times the cost."""
    return [
        (name, _default_factory(default)) for name, default in _defaults(kind).items() if default is not _NO_DEFAULT
    ]


def _default_factory(default: Any) -> Callable[[], Any]:
    return partial(copy.deepcopy, default) if default else partial(copy.copy, default)


@cache
def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    return {name: _default(field) for name, field in kind.model_fields.items()}


def _default(field: Any) -> Any:
    if field.is_required() or field.default_factory_takes_validated_data:
        return _NO_DEFAULT
    return field.get_default(call_default_factory=True)


def _is_default(default: Any, value: Any) -> bool:
    if value is default:
        return True
    # Only empty containers and plain values are compared: comparing other objects may be slow, or raise.
    is_comparable = type(value) in (str, int, bool) or (type(value) in (list, dict) and not value)
    return is_comparable and type(default) is type(value) and bool(default == value)


def _tag(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    return {TAG: kind, "v": value, **more}


def _dump_opaque(value: Any) -> dict[str, Any]:
    if isinstance(value, Unserialisable):
        return _tag("opaque", value.text, type=value.type_name)
    try:
        text = repr(value)[:MAX_REPR_CHARS]
    except Exception as error:  # a repr is user code and may raise any exception; the placeholder is stored anyway
        text = f"<repr failed: {type(error).__name__}>"
    return _tag("opaque", text, type=type_name(type(value)))


_message_codec: list[Any] = []


def register_message_codec(dump: Callable[[BaseMessage, int], Any], load: Callable[[Any, Types], Any]) -> None:
    """Set the functions that dump and load messages inside values. Called by the module of messages."""
    _message_codec[:] = [dump, load]


def _dump_dict(value: dict[Any, Any], depth: int) -> Any:
    if TAG not in value and all(type(key) is str for key in value):
        return {key: dump_value(item, depth + 1) for key, item in value.items()}
    pairs = [[dump_value(key, depth + 1), dump_value(item, depth + 1)] for key, item in value.items()]
    return _tag("dict", pairs)


def _dump_library_value(kind: str, value: Any, depth: int) -> Any:
    def dump(item: Any) -> Any:
        return dump_value(item, depth + 4)

    try:
        return _tag(kind, dump_library_value(kind, value, dump, lambda data: load_value(data, {})))
    except ValueError:
        return _dump_opaque(value)


def _load_library_value(data: dict[str, Any], types: Types) -> Any:
    try:
        return load_library_value(data[TAG], data["v"], lambda item: load_value(item, types))
    except ImportError as error:
        return Unserialisable(f"{data[TAG]}", f"it needs a library that is not installed: {error}")


def _dump_object(value: Any, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return _tag("enum", dump_value(value.value, depth + 1), type=type_name(type(value)))
    if isinstance(value, BaseMessage):
        return _tag("message", _message_codec[0](value, depth + 1))
    if isinstance(value, BaseModel):
        fields, extra = dump_model(value, depth)
        kind = "document" if type(value) is Document else "model"
        return _tag(kind, fields, type=type_name(type(value)), **({"extra": extra} if extra else {}))
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Unserialisable):
        fields = {f.name: dump_value(getattr(value, f.name, None), depth + 1) for f in dataclasses.fields(value)}
        return _tag("dataclass", fields, type=type_name(type(value)))
    for kinds, name in _SEQUENCES:
        if isinstance(value, kinds):
            return _tag(name, [dump_value(item, depth + 1) for item in value])
    for base in (str, int, float):
        if isinstance(value, base):
            return dump_value(base(value), depth)
    return [dump_value(item, depth + 1) for item in value] if isinstance(value, list) else _dump_opaque(value)


_SEQUENCES: tuple[tuple[type[Collection[Any]], str], ...] = ((tuple, "tuple"), (set, "set"), (frozenset, "frozenset"))

_SCALARS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (bytes, "bytes", lambda v: base64.b64encode(v).decode()),
    (bytearray, "bytearray", lambda v: base64.b64encode(v).decode()),
    (datetime, "datetime", lambda v: v.isoformat()),
    (date, "date", lambda v: v.isoformat()),
    (time, "time", lambda v: v.isoformat()),
    (timedelta, "timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    (UUID, "uuid", str),
    (Decimal, "decimal", str),
    (complex, "complex", lambda v: [dump_value(v.real), dump_value(v.imag)]),
)


def _load_model(data: dict[str, Any], types: Types) -> Any:
    fields, extra = load_value(data["v"], types), load_value(data.get("extra", {}), types)
    kind = types.get(data["type"])
    if kind is None or not issubclass(kind, BaseModel):
        return {**fields, **extra}
    return build_model(kind, fields, extra)


def _load_dataclass(data: dict[str, Any], types: Types) -> Any:
    fields, kind = load_value(data["v"], types), types.get(data["type"])
    if kind is None or not dataclasses.is_dataclass(kind):
        return fields
    instance = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
    return instance


def _load_enum(data: dict[str, Any], types: Types) -> Any:
    value, kind = load_value(data["v"], types), types.get(data["type"])
    return kind(value) if kind is not None and issubclass(kind, enum.Enum) else value


def _load_message(data: dict[str, Any], types: Types) -> Any:
    return _message_codec[1](data["v"], types)


def _load_document(data: dict[str, Any], types: Types) -> Any:
    return build_model(Document, load_value(data["v"], types), load_value(data.get("extra", {}), types))


_LOADERS: dict[str, Callable[[dict[str, Any], Types], Any]] = {
    "int": lambda d, _: int(d["v"], 16),
    "float": lambda d, _: float(d["v"]),
    "bytes": lambda d, _: base64.b64decode(d["v"]),
    "bytearray": lambda d, _: bytearray(base64.b64decode(d["v"])),
    "datetime": lambda d, _: datetime.fromisoformat(d["v"]),
    "date": lambda d, _: date.fromisoformat(d["v"]),
    "time": lambda d, _: time.fromisoformat(d["v"]),
    "timedelta": lambda d, _: timedelta(*d["v"]),
    "uuid": lambda d, _: UUID(d["v"]),
    "decimal": lambda d, _: Decimal(d["v"]),
    "complex": lambda d, types: complex(*load_value(d["v"], types)),
    "tuple": lambda d, types: tuple(load_value(d["v"], types)),
    "set": lambda d, types: set(load_value(d["v"], types)),
    "frozenset": lambda d, types: frozenset(load_value(d["v"], types)),
    "dict": lambda d, types: {load_value(k, types): load_value(v, types) for k, v in d["v"]},
    "opaque": lambda d, _: Unserialisable(d["type"], d["v"]),
    "model": _load_model,
    "dataclass": _load_dataclass,
    "enum": _load_enum,
    "message": _load_message,
    "document": _load_document,
    **dict.fromkeys(("ndarray", "npscalar", "dataframe", "series"), _load_library_value),
}
