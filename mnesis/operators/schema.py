"""What an answer has to look like: the schema a user gives, as JSON Schema text for a model and as a check of its answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from mnesis.errors import ConfigurationError, MnesisError
from mnesis.operators.compute_limits import TooMuchError, limited, step
from mnesis.recall.regex import MAX_WRITTEN_OUT_CHARS, written_out_chars

MAX_ERRORS = 10
MAX_ERROR_CHARACTERS = 300
MAX_REFERENCES = 200_000
"""References followed while one answer is checked."""
MAX_SECONDS = 2.0
"""Computing time for the check of one answer, and for one pattern in it."""
MAX_STARTS = 32
"""Places in an answer at which JSON is looked for."""

_FENCE = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_ANNOTATIONS = frozenset(
    {"$anchor", "$comment", "$defs", "$id", "$schema", "default", "definitions", "description", "examples", "title"}
)
_DATA = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""


class InvalidOutputError(MnesisError, ValueError):
    """An answer that does not satisfy the schema; the text says where. Models are told and asked again."""


class OutputSchema:
    """A pydantic model class or a JSON Schema (a dict), checked.

    `instructions` tell a model about it, `json_schema` is it as a dict, `text` the same as canonical JSON. Nothing is
    ever fetched: references lead into the schema itself. Raises `ConfigurationError` for anything that is no schema.
    """

    def __init__(self, schema: type[BaseModel] | Mapping[str, Any]) -> None:
        self._model = schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None
        given = _model_schema(self._model) if self._model else schema
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"output_schema is a pydantic model class or a JSON Schema as a dict, not {type(schema).__name__}"
                f" ({schema!r:.100})"
            )
        self.json_schema = _own_copy(given)
        self.text = json.dumps(self.json_schema, ensure_ascii=False, sort_keys=True)
        self._validator = _validator(self.json_schema)

    @property
    def instructions(self) -> str:
        """What a model is told, in the system message."""
        shown = json.dumps(self.json_schema, ensure_ascii=False)
        return (
            "Answer with one JSON value that satisfies the JSON Schema below, and with nothing else: no explanation, no"
            f" code fence.\n\nJSON Schema:\n{shown}"
        )

    def parse(self, text: str) -> Any:
        """The value in an answer: a model instance, or a JSON value. Raises `InvalidOutputError`."""
        return self.read(text)[1]

    def read(self, text: str) -> tuple[Any, Any]:
        """The JSON value in an answer as it stands there, and what `parse` makes of it. The first can be stored.

        Prose around the JSON and code fences are understood: the first value that satisfies the schema counts. Raises
        `InvalidOutputError` with what is wrong with the first value found.
        """
        refusal: InvalidOutputError | None = None
        for value in _json_values(text):
            try:
                return value, self.restore(value)
            except InvalidOutputError as error:
                refusal = refusal or error
        raise refusal or InvalidOutputError(_no_json(text))

    def restore(self, value: Any) -> Any:
        """What `parse` makes of a JSON value. Raises `InvalidOutputError`."""
        if self._model is None:
            return self._checked(value)
        try:
            return self._model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise InvalidOutputError(_told(_model_errors(error))) from error

    def feedback(self, error: InvalidOutputError, guidance: str = "") -> str:
        """What a model is told about its answer, as the next user message."""
        return f"Your answer does not satisfy the JSON Schema:\n{error}\n\n{guidance or RETRY_GUIDANCE}"

    def _checked(self, value: Any) -> Any:
        try:
            with limited(MAX_REFERENCES, MAX_SECONDS):
                found = islice(self._validator.iter_errors(value), MAX_ERRORS)
                errors = [f"{error.json_path}: {error.message}" for error in found]
        except RecursionError as error:
            raise InvalidOutputError("the value is nested too deep to be checked") from error
        except (TooMuchError, TimeoutError) as error:
            raise InvalidOutputError(f"checking it takes too long ({error}); the schema may be at fault") from error
        if errors:
            raise InvalidOutputError(_told(errors))
        return value


RETRY_GUIDANCE = "Correct this and answer again, with the whole JSON value and nothing else."


def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema()
    except (PydanticUserError, RecursionError) as error:
        raise ConfigurationError(
            f"{model.__name__} cannot be told to a model as a JSON Schema: {error!s:.300}; use fields of JSON types"
        ) from error


def _own_copy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as JSON: later changes of the caller's do not reach it."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(schema), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"output_schema is no JSON: {error!s:.300}") from error
    return copy


def _validator(schema: dict[str, Any]) -> Any:
    from jsonschema import exceptions, validators  # type: ignore[import-untyped]  # comes without types
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # as above
    from referencing import Resource, jsonschema
    from referencing.exceptions import Unresolvable

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)
        if schema and not set(schema) & ({*kind.VALIDATORS} | _ANNOTATIONS):
            raise ConfigurationError(
                f"output_schema is no JSON Schema: none of its keys ({', '.join(sorted(schema))!s:.200}) is a keyword;"
                ' did you mean {"type": "object", "properties": {…}, "required": […]}?'
            )
        resource = Resource.from_contents(schema, default_specification=jsonschema.DRAFT202012)
        resolver = REGISTRY.resolver_with_root(resource)
        for reference in _texts_of(schema, "$ref", "$dynamicRef"):
            resolver.lookup(reference)
        for pattern in _texts_of(schema, "pattern"):
            _refuse_large_pattern(pattern)
    except exceptions.SchemaError as error:
        raise ConfigurationError(
            f"output_schema is no JSON Schema: at {error.json_path}: {error.message:.300}"
        ) from error
    except Unresolvable as error:
        raise ConfigurationError(
            f"output_schema refers to {error.ref!r}, which is not in it; nothing is fetched: put it under $defs"
        ) from error
    except RecursionError as error:
        raise ConfigurationError("output_schema is nested too deep") from error
    return validators.extend(kind, _bounded(kind.VALIDATORS))(schema, registry=REGISTRY)


def _bounded(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords with which a short schema can take any time: references, which are counted, and patterns, which have
    so many seconds."""

    def counted(follow: Any) -> Any:
        def followed(*arguments: Any) -> Any:
            step()
            return follow(*arguments)

        return followed

    def pattern(validator: Any, expression: str, value: Any, schema: Any) -> Iterator[Any]:
        import regex
        from jsonschema.exceptions import ValidationError as Mismatch  # type: ignore[import-untyped]  # as above

        if isinstance(value, str) and not regex.search(expression, value, timeout=MAX_SECONDS):
            yield Mismatch(f"{value!r} does not match {expression!r}")

    references = {name: counted(keywords[name]) for name in ("$ref", "$dynamicRef") if name in keywords}
    return {**references, "pattern": pattern}


def _texts_of(schema: Any, *keywords: str) -> Iterator[str]:
    """What these keywords say, wherever they stand in a schema."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in keywords and isinstance(value, str):
                yield value
            elif name not in _DATA:
                yield from _texts_of(value, *keywords)
    elif isinstance(schema, list):
        for value in schema:
            yield from _texts_of(value, *keywords)


def _refuse_large_pattern(pattern: str) -> None:
    if written_out_chars(pattern) > MAX_WRITTEN_OUT_CHARS:
        raise ConfigurationError(
            f"output_schema: the pattern {pattern:.80} repeats too much; count less, or use * and +"
        )


def _json_values(text: str) -> Iterator[Any]:
    """JSON values in an answer: the whole of it, then fenced blocks, then whatever starts with a bracket."""
    for candidate in (text, *(block.group(1) for block in _FENCE.finditer(text))):
        try:
            yield _DECODER.decode(candidate.strip("\ufeff \t\r\n"))
        except (ValueError, RecursionError):
            continue
    position = 0
    for _ in range(MAX_STARTS):
        opening = re.compile(r"[{\[]").search(text, position)
        if opening is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.end()
            continue
        yield value


def _no_json(text: str) -> str:
    try:
        _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        return f"no JSON value was found in it ({error or 'nested too deep'})"
    return "no JSON value was found in it"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is no number that JSON can hold")
    return number


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def _model_errors(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in found[:MAX_ERRORS]]


def _told(errors: list[str]) -> str:
    return "\n".join(f"- {error:.{MAX_ERROR_CHARACTERS}}" for error in errors)
