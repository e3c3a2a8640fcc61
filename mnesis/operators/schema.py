"""Output schemas: shown to a model, and used to validate its answers."""

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
from mnesis.operators.compute_limits import ComputeLimitError, count_step, limit_compute
from mnesis.recall.regex import MAX_EXPANDED_CHARS, expanded_chars

MAX_ERRORS = 10
MAX_ERROR_CHARS = 300
MAX_REFERENCES = 200_000
"""The maximum number of references that are followed while one answer is validated."""
MAX_SECONDS = 2.0
"""Computing time for the validation of one answer, and for one pattern in it."""
MAX_JSON_STARTS = 32
"""The maximum number of opening brackets at which the search for JSON in an answer starts."""

_FENCE = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_ANNOTATIONS = frozenset(
    {"$anchor", "$comment", "$defs", "$id", "$schema", "default", "definitions", "description", "examples", "title"}
)
_DATA = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""


class InvalidOutputError(MnesisError, ValueError):
    """An answer that does not satisfy the schema.

    Its text names the place; the model receives the text and answers again.
    """


class OutputSchema:
    """A checked output schema: a pydantic model class or a JSON Schema (a dict).

    `json_schema` is the schema as a dict, `text` as canonical JSON. Nothing is fetched: references must lead into the
    schema itself. Raises `ConfigurationError` when created from anything that is not a schema.
    """

    def __init__(self, schema: type[BaseModel] | Mapping[str, Any]) -> None:
        self._model = schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None
        definition = _pydantic_schema(self._model) if self._model else schema
        if not isinstance(definition, Mapping):
            raise ConfigurationError(
                f"output_schema must be a pydantic model class or a JSON Schema as a dict, not {type(schema).__name__}"
                f" ({schema!r:.100})"
            )
        self.json_schema = _copy_as_json(definition)
        self.text = json.dumps(self.json_schema, ensure_ascii=False, sort_keys=True)
        self._validator = _build_validator(self.json_schema)

    @property
    def validating_class(self) -> str | None:
        """The name of the pydantic class if its own code takes part in the validation, which the JSON Schema does not show."""
        if self._model is None or not _runs_code(self._model.__pydantic_core_schema__):
            return None
        return f"{self._model.__module__}.{self._model.__qualname__}"

    @property
    def instructions(self) -> str:
        """The text about the schema in the system message."""
        schema_text = json.dumps(self.json_schema, ensure_ascii=False)
        return (
            "Answer with one JSON value that satisfies the JSON Schema below, and with nothing else: no explanation, no"
            f" code fence.\n\nJSON Schema:\n{schema_text}"
        )

    def parse(self, text: str) -> Any:
        """Parse an answer into a model instance or a JSON value. Raises `InvalidOutputError`."""
        return self.extract(text)[1]

    def extract(self, text: str) -> tuple[Any, Any]:
        """Find the JSON value in an answer. Returns the JSON value, which can be stored, and the parsed output.

        Prose around the JSON and code fences are ignored; the first value that satisfies the schema counts. Raises
        `InvalidOutputError` with the errors of the first value found.
        """
        first_error: InvalidOutputError | None = None
        for value in _find_json_values(text):
            try:
                return value, self.restore(value)
            except InvalidOutputError as error:
                first_error = first_error or error
        raise first_error or InvalidOutputError(_no_json_message(text))

    def restore(self, value: Any) -> Any:
        """Turn a JSON value into a model instance, or validate it. Raises `InvalidOutputError`."""
        if self._model is None:
            return self._validate(value)
        try:
            return self._model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise InvalidOutputError(_bullet_list(_pydantic_errors(error))) from error

    def feedback(self, error: InvalidOutputError, guidance: str = "") -> str:
        """Return the next user message to a model whose answer is invalid."""
        return f"Your answer does not satisfy the JSON Schema:\n{error}\n\n{guidance or RETRY_GUIDANCE}"

    def _validate(self, value: Any) -> Any:
        try:
            with limit_compute(MAX_REFERENCES, MAX_SECONDS):
                first_errors = islice(self._validator.iter_errors(value), MAX_ERRORS)
                errors = [f"{error.json_path}: {error.message}" for error in first_errors]
        except RecursionError as error:
            raise InvalidOutputError("the value is nested too deeply to be checked") from error
        except (ComputeLimitError, TimeoutError) as error:
            raise InvalidOutputError(f"checking it takes too long ({error}); the schema may be at fault") from error
        if errors:
            raise InvalidOutputError(_bullet_list(errors))
        return value


RETRY_GUIDANCE = "Correct this and answer again, with the whole JSON value and nothing else."


def _runs_code(core_schema: Any) -> bool:
    """Return whether a core schema of pydantic calls functions (docs.pydantic.dev, "pydantic_core.core_schema")."""
    if isinstance(core_schema, Mapping):
        kind = core_schema.get("type")
        return (isinstance(kind, str) and kind.startswith("function-")) or any(map(_runs_code, core_schema.values()))
    return isinstance(core_schema, list | tuple) and any(map(_runs_code, core_schema))


def _pydantic_schema(model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema()
    except (PydanticUserError, RecursionError) as error:
        raise ConfigurationError(
            f"{model.__name__} cannot be expressed as a JSON Schema: {error!s:.300}; use fields of JSON types"
        ) from error


def _copy_as_json(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the schema as JSON, so that later changes by the caller have no effect."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(schema), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"output_schema is not JSON: {error!s:.300}") from error
    return copy


def _build_validator(schema: dict[str, Any]) -> Any:
    from jsonschema import exceptions, validators  # type: ignore[import-untyped]  # comes without types
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # as above
    from referencing import Resource, jsonschema
    from referencing.exceptions import Unresolvable

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)
        if schema and not set(schema) & ({*kind.VALIDATORS} | _ANNOTATIONS):
            raise ConfigurationError(
                f"output_schema is not a JSON Schema: none of its keys ({', '.join(sorted(schema))!s:.200}) is a keyword;"
                ' did you mean {"type": "object", "properties": {…}, "required": […]}?'
            )
        resource = Resource.from_contents(schema, default_specification=jsonschema.DRAFT202012)
        resolver = REGISTRY.resolver_with_root(resource)
        for reference in _keyword_strings(schema, "$ref", "$dynamicRef"):
            resolver.lookup(reference)
        for pattern in _keyword_strings(schema, "pattern"):
            _check_pattern_size(pattern)
    except exceptions.SchemaError as error:
        raise ConfigurationError(
            f"output_schema is not a JSON Schema: at {error.json_path}: {error.message:.300}"
        ) from error
    except Unresolvable as error:
        raise ConfigurationError(
            f"output_schema refers to {error.ref!r}, which it does not contain; put it under $defs, since nothing is fetched"
        ) from error
    except RecursionError as error:
        raise ConfigurationError("output_schema is nested too deeply") from error
    return validators.extend(kind, _limited_keywords(kind.VALIDATORS))(schema, registry=REGISTRY)


def _limited_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Limit the keywords with which a short schema could take unlimited time.

    References are counted; patterns have a time limit.
    """

    def count_calls(follow: Any) -> Any:
        def follow_and_count(*arguments: Any) -> Any:
            count_step()
            return follow(*arguments)

        return follow_and_count

    def pattern(validator: Any, expression: str, value: Any, schema: Any) -> Iterator[Any]:
        import regex
        from jsonschema.exceptions import ValidationError as Mismatch  # type: ignore[import-untyped]  # as above

        if isinstance(value, str) and not regex.search(expression, value, timeout=MAX_SECONDS):
            yield Mismatch(f"{value!r} does not match {expression!r}")

    references = {name: count_calls(keywords[name]) for name in ("$ref", "$dynamicRef") if name in keywords}
    return {**references, "pattern": pattern}


def _keyword_strings(schema: Any, *keywords: str) -> Iterator[str]:
    """Yield the string values of these keywords anywhere in a schema."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in keywords and isinstance(value, str):
                yield value
            elif name not in _DATA:
                yield from _keyword_strings(value, *keywords)
    elif isinstance(schema, list):
        for value in schema:
            yield from _keyword_strings(value, *keywords)


def _check_pattern_size(pattern: str) -> None:
    if expanded_chars(pattern) > MAX_EXPANDED_CHARS:
        raise ConfigurationError(
            f"output_schema: the pattern {pattern:.80} repeats too much; use smaller counts, or * and +"
        )


def _find_json_values(text: str) -> Iterator[Any]:
    """Yield the JSON values in an answer.

    Tries the whole text, then fenced blocks, then text that starts with a bracket.
    """
    for candidate in (text, *(block.group(1) for block in _FENCE.finditer(text))):
        try:
            yield _DECODER.decode(candidate.strip("\ufeff \t\r\n"))
        except (ValueError, RecursionError):
            continue
    position = 0
    for _ in range(MAX_JSON_STARTS):
        opening = re.compile(r"[{\[]").search(text, position)
        if opening is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.end()
            continue
        yield value


def _no_json_message(text: str) -> str:
    try:
        _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        return f"no JSON value was found in it ({error or 'nested too deeply'})"
    return "no JSON value was found in it"


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is not a number that JSON can represent")
    return number


def _reject_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_parse_finite, parse_constant=_reject_constant)


def _pydantic_errors(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, detail['loc'])) or '$'}: {detail['msg']}" for detail in details[:MAX_ERRORS]]


def _bullet_list(errors: list[str]) -> str:
    return "\n".join(f"- {error:.{MAX_ERROR_CHARS}}" for error in errors)
