"""The engine's tools as LlamaIndex tools."""

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
    """One `FunctionTool` for each spec, with its name, description and JSON Schema, for agents and chat engines, called
    synchronously or not. Raises `ToolDefinitionError` for a spec without a handler."""
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
        raise ToolDefinitionError(f"tool {spec.name!r} has no handler; it can be described to a model but not called")
    return FunctionTool(fn=_synchronous(handler), async_fn=_asynchronous(handler), metadata=_SpecMetadata(spec))


def _asynchronous(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def call(**arguments: Any) -> Any:
        if inspect.iscoroutinefunction(handler):
            return await handler(**arguments)
        value = await to_thread.run_sync(lambda: handler(**arguments))
        return await value if inspect.isawaitable(value) else value

    return call


def _synchronous(handler: Callable[..., Any]) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return concurrency.run(_asynchronous(handler)(**arguments))

    return call
