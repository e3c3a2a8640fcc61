"""A Python function as a tool: its name, its docstring, its parameters as JSON Schema."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mnesis.errors import ToolDefinitionError
from mnesis.models.tool import ToolSpec

NAME = re.compile(r"[^a-zA-Z0-9_-]")


def from_function(function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> ToolSpec:
    """The tool a function makes. Parameters need names; types come from the annotations (a string where there is none),
    descriptions from `Annotated[…, Field(description=…)]`. Arguments are validated before the function is called."""
    wanted: str = name or str(getattr(function, "__name__", type(function).__name__))
    model = _arguments_model(function, wanted)
    schema = model.model_json_schema()
    schema.pop("title", None)
    schema.setdefault("properties", {})
    text: str = description or inspect.getdoc(function) or wanted

    def checked(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            valid = model(**arguments)
        except ValidationError as error:
            raise ValueError(_explained(error)) from error
        return {field: getattr(valid, field) for field in valid.model_fields_set}

    async def handler_async(**arguments: Any) -> Any:
        return await function(**checked(arguments))

    def handler(**arguments: Any) -> Any:
        return function(**checked(arguments))

    chosen = handler_async if is_async(function) else handler
    return ToolSpec(name=NAME.sub("_", wanted)[:64], description=text, parameters=schema, handler=chosen)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004  # asks what kind of call it is, not whether it can be called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _arguments_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(
            function if inspect.isroutine(function) else type(function).__call__, include_extras=True
        )
    except (TypeError, ValueError, NameError) as error:
        raise ToolDefinitionError(f"the parameters of tool {name!r} cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolDefinitionError(
                f"tool {name!r}: parameter {parameter.name!r} is positional-only; a model calls by name"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, str), default)
    try:
        return create_model(f"{name}_arguments", __config__=ConfigDict(arbitrary_types_allowed=False), **fields)
    except Exception as error:
        raise ToolDefinitionError(f"tool {name!r}: its parameters cannot be described as JSON: {error}") from error


def _explained(error: ValidationError) -> str:
    wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
    return f"invalid arguments: {wrong}"
