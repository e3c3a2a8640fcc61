"""Tool definitions from Python functions: name, docstring, and parameters as JSON Schema."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mnesis.errors import ToolDefinitionError
from mnesis.models.tool import ToolSpec

_INVALID_NAME_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


def tool_from_function(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> ToolSpec:
    """Build a tool from a function.

    Parameter types come from the annotations (string if there is none), and descriptions from
    `Annotated[…, Field(description=…)]`. Arguments are validated before the function is called.

    Raises `ToolDefinitionError` if the parameters cannot be described as JSON Schema.
    """
    tool_name: str = name or str(getattr(function, "__name__", type(function).__name__))
    model = _arguments_model(function, tool_name)
    schema = model.model_json_schema()
    schema.pop("title", None)
    schema.setdefault("properties", {})
    tool_description: str = description or inspect.getdoc(function) or tool_name

    def validate(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            valid = model(**arguments)
        except ValidationError as error:
            raise ValueError(_validation_message(error)) from error
        return {field: getattr(valid, field) for field in valid.model_fields_set}

    async def handler_async(**arguments: Any) -> Any:
        return await function(**validate(arguments))

    def handler(**arguments: Any) -> Any:
        return function(**validate(arguments))

    chosen_handler = handler_async if is_async(function) else handler
    return ToolSpec(
        name=_INVALID_NAME_CHARACTER.sub("_", tool_name)[:64],
        description=tool_description,
        parameters=schema,
        handler=chosen_handler,
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling the object returns an awaitable."""
    call = getattr(function, "__call__", None)  # noqa: B004  # checks whether the method is async, not whether the object is callable
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
                f"tool {name!r}: parameter {parameter.name!r} is positional-only, but models pass arguments by name; make it a normal parameter"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, str), default)
    try:
        return create_model(f"{name}_arguments", __config__=ConfigDict(arbitrary_types_allowed=False), **fields)
    except Exception as error:
        raise ToolDefinitionError(f"tool {name!r}: its parameters cannot be described as JSON: {error}") from error


def _validation_message(error: ValidationError) -> str:
    problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
    return f"invalid arguments: {problems}"
