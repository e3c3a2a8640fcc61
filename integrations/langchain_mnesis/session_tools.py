"""`lcm_grep`, `lcm_describe` and `lcm_expand` as LangChain tools of one session, for `bind_tools` and your own agents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.errors import MnesisError
from mnesis.models.tool import ToolSpec
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession
from mnesis.tools.recall import RECALL_TOOL_SPECS


def session_tools(sessions: Sessions, session_id: str, grant: Grant | None = None) -> list[BaseTool]:
    """Return the recall tools of a session, which may not exist yet. Errors are reported to the model.

    All calls share one `grant`. The default limits each result, but not all results together.
    """
    shared_grant = grant or Grant(tokens=None)

    def build_tool(spec: ToolSpec) -> BaseTool:
        async def call(**arguments: Any) -> str:
            session = await sessions.pool.get(session_id)
            if session is None:
                raise ToolException("this session has no messages yet")
            return await call_recall_tool(session, spec, arguments, shared_grant)

        return langchain_tool(spec, call)

    return [build_tool(spec) for spec in RECALL_TOOL_SPECS]


def langchain_tool(spec: ToolSpec, handler: Callable[..., Coroutine[Any, Any, str]]) -> BaseTool:
    """Build a LangChain tool from a spec and an async handler. If the handler raises a `ToolException`, its text is the
    result.

    LangGraph injects the parameters of `handler` that are annotated with its types, such as `ToolRuntime`.
    """

    # LangGraph looks for parameters to inject in the signature of the synchronous function.
    @functools.wraps(handler)
    def call_blocking(**arguments: Any) -> str:
        return concurrency.run(handler(**arguments))

    return StructuredTool(
        name=spec.name,
        description=spec.description,
        args_schema=spec.parameters,
        func=call_blocking,
        coroutine=handler,
        handle_tool_error=True,
    )


async def call_recall_tool(
    session: MnesisSession, spec: ToolSpec, arguments: dict[str, Any], grant: Grant | None = None
) -> str:
    """Call a recall tool of a session.

    Raises `ToolException` for invalid arguments and for errors of mnesis, so that the model can correct its call.
    """
    check_arguments(spec, arguments)
    handlers = {tool.name: tool.handler for tool in session.recall_tools(grant)}
    handler = handlers[spec.name]
    if handler is None:
        raise ToolException(f"tool {spec.name} has no handler")
    try:
        return str(await handler(**arguments))
    except MnesisError as error:
        raise ToolException(str(error)) from error


def check_arguments(spec: ToolSpec, arguments: dict[str, Any]) -> None:
    """Raise `ToolException` unless the arguments are strings that the spec knows, with all that it requires.

    LangChain does not validate arguments against a JSON Schema.
    """
    names = spec.parameters["properties"]
    required = spec.parameters["required"]
    problems = [f"{name} is required" for name in required if arguments.get(name) is None]
    for name, value in arguments.items():
        if name not in names:
            problems.append(f"{name} is not a parameter; the parameters are {', '.join(names)}")
        elif value is not None and not isinstance(value, str):
            problems.append(f"{name} must be a string, not {value!r:.80}")
    if problems:
        raise ToolException(f"invalid arguments of {spec.name}: {'; '.join(problems)}")
