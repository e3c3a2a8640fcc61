"""`lcm_grep`, `lcm_describe` and `lcm_expand` as LangChain tools of one session, for `bind_tools` and agents of your own."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.errors import MnesisError
from mnesis.models.tool import ToolSpec
from mnesis.recall.grants import Grant
from mnesis.store.memory import MemoryStore
from mnesis.tools.recall import recall_tools


def session_tools(sessions: Sessions, session_id: str, grant: Grant | None = None) -> list[BaseTool]:
    """The tools for one session, which need not exist yet. All their calls share one `grant`; without one there is no end
    to what they may bring back altogether, only to each result. What is wrong is told to the model."""
    shared = grant or Grant(tokens=None)

    async def look(name: str, arguments: dict[str, Any]) -> str:
        session = await sessions.existing(session_id)
        if session is None:
            raise ToolException("nothing was said in this session yet")
        handlers = {tool.name: tool.handler for tool in session.recall_tools(shared)}
        handler = handlers[name]
        try:
            return str(await handler(**arguments)) if handler is not None else ""
        except MnesisError as error:
            raise ToolException(str(error)) from error

    def tool(spec: ToolSpec) -> BaseTool:
        async def native(**arguments: Any) -> str:
            return await look(spec.name, arguments)

        def plain(**arguments: Any) -> str:
            return concurrency.run(look(spec.name, arguments))

        return StructuredTool(
            name=spec.name,
            description=spec.description,
            args_schema=spec.parameters,
            func=plain,
            coroutine=native,
            handle_tool_error=True,
        )

    # What the tools are and what they take is said once, by the engine.
    return [tool(spec) for spec in recall_tools(MemoryStore(), "any", len)]
