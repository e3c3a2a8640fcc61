"""The recall tools of an agent: `lcm_grep`, `lcm_describe` and `lcm_expand`, for the session of the run that calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain.tools import ToolRuntime
from langchain_core.tools import BaseTool, ToolException

from langchain_mnesis.session_tools import call_recall_tool, langchain_tool
from langchain_mnesis.sessions import Sessions
from mnesis.models.tool import ToolSpec
from mnesis.tools.recall import RECALL_TOOL_SPECS

SessionOf = Callable[[ToolRuntime], str | None]
"""Returns the session id of the run that calls the tool, or None if it has no session."""


def agent_tools(sessions: Sessions, session_of: SessionOf) -> list[BaseTool]:
    """Return the recall tools for the session of the calling run. Errors are reported to the model."""

    def build_tool(spec: ToolSpec) -> BaseTool:
        async def call(runtime: ToolRuntime, **arguments: Any) -> str:
            session_id = session_of(runtime)
            session = await sessions.pool.get(session_id) if session_id is not None else None
            if session is None:
                raise ToolException("this run has no session")
            return await call_recall_tool(session, spec, arguments)

        return langchain_tool(spec, call)

    return [build_tool(spec) for spec in RECALL_TOOL_SPECS]
