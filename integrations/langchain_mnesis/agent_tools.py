"""The tools by which an agent looks again at what its window leaves out: `lcm_grep`, `lcm_describe`, `lcm_expand`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from langchain.tools import ToolRuntime
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.errors import MnesisError
from mnesis.store.memory import MemoryStore
from mnesis.tools.recall import recall_tools

SessionOf = Callable[[ToolRuntime], str | None]
"""Names the session of the run a tool is called in; None if it has none."""


def agent_tools(sessions: Sessions, session_of: SessionOf) -> list[BaseTool]:
    """The tools, each answering for the session of the run that calls it. What is wrong is told to the model."""

    async def look(name: str, runtime: ToolRuntime, **arguments: Any) -> str:
        session_id = session_of(runtime)
        session = await sessions.existing(session_id) if session_id is not None else None
        if session is None:
            raise ToolException("this run keeps no session")
        [handler] = [tool.handler for tool in session.recall_tools() if tool.name == name]
        try:
            return str(await handler(**arguments)) if handler is not None else ""
        except MnesisError as error:
            raise ToolException(str(error)) from error

    async def grep(
        pattern: str,
        runtime: ToolRuntime,
        mode: Literal["regex", "words"] = "regex",
        summary_id: str | None = None,
        cursor: str | None = None,
    ) -> str:
        return await look("lcm_grep", runtime, pattern=pattern, mode=mode, summary_id=summary_id, cursor=cursor)

    async def describe(id: str, runtime: ToolRuntime) -> str:
        return await look("lcm_describe", runtime, id=id)

    async def expand(id: str, runtime: ToolRuntime, cursor: str | None = None) -> str:
        return await look("lcm_expand", runtime, id=id, cursor=cursor)

    def grep_sync(
        pattern: str,
        runtime: ToolRuntime,
        mode: Literal["regex", "words"] = "regex",
        summary_id: str | None = None,
        cursor: str | None = None,
    ) -> str:
        return concurrency.run(grep(pattern, runtime, mode, summary_id, cursor))

    def describe_sync(id: str, runtime: ToolRuntime) -> str:
        return concurrency.run(describe(id, runtime))

    def expand_sync(id: str, runtime: ToolRuntime, cursor: str | None = None) -> str:
        return concurrency.run(expand(id, runtime, cursor))

    # What the tools are for is said once, by the engine.
    said = {tool.name: tool.description for tool in recall_tools(MemoryStore(), "any", len)}
    made = (
        ("lcm_grep", grep_sync, grep),
        ("lcm_describe", describe_sync, describe),
        ("lcm_expand", expand_sync, expand),
    )
    return [
        StructuredTool.from_function(plain, coroutine=native, name=name, description=said[name], handle_tool_error=True)
        for name, plain, native in made
    ]
