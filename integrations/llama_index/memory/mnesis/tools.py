"""Conversion of the engine's tools to LlamaIndex tools."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from anyio import to_thread
from llama_index.core.tools import FunctionTool, ToolMetadata
from pydantic import BaseModel

from mnesis import concurrency
from mnesis.errors import ToolDefinitionError
from mnesis.models.tool import ToolSpec


def function_tools(specs: Iterable[ToolSpec]) -> list[FunctionTool]:
    """Convert tool specs to `FunctionTool`s with the same name, description and JSON Schema.

    The tools can be called synchronously and asynchronously. Raises `ToolDefinitionError` if a spec has no handler.
    """
    return [_function_tool(spec) for spec in specs]


class _SpecMetadata(ToolMetadata):
    """Metadata whose parameters are a JSON Schema instead of a pydantic model."""

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(description=spec.description, name=spec.name, fn_schema=BaseModel)
        self._parameters = spec.parameters

    def get_parameters_dict(self) -> dict[str, Any]:
        return self._parameters


def _function_tool(spec: ToolSpec) -> FunctionTool:
    handler = spec.handler
    if handler is None:
        raise ToolDefinitionError(
            f"tool {spec.name!r} has no handler and cannot be called; pass a ToolSpec with a handler"
        )
    return FunctionTool(fn=_make_sync(handler), async_fn=_make_async(handler), metadata=_SpecMetadata(spec))


def _make_async(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def call(**arguments: Any) -> Any:
        if inspect.iscoroutinefunction(handler):
            return await handler(**arguments)
        value = await to_thread.run_sync(lambda: handler(**arguments))
        return await value if inspect.isawaitable(value) else value

    return call


def _make_sync(handler: Callable[..., Any]) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return concurrency.run(_make_async(handler)(**arguments))

    return call
