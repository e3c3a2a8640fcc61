"""Operators: maps over many inputs, and sub-agents that do one task each."""

from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.delegation import Task, delegate, delegate_all
from mnesis.operators.join import join_run
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.options import (
    AgenticMapOptions,
    AgentOptions,
    AgentWorkOptions,
    DelegateOptions,
    LLMMapOptions,
    MapOptions,
    WorkOptions,
)
from mnesis.operators.tools import (
    agentic_map_tool,
    delegate_all_tool,
    delegate_tool,
    llm_map_tool,
    map_results_tool,
)

__all__ = [
    "AgentOptions",
    "AgentWorkOptions",
    "AgenticMap",
    "AgenticMapOptions",
    "DelegateOptions",
    "LLMMap",
    "LLMMapOptions",
    "MapOptions",
    "Task",
    "WorkOptions",
    "agentic_map_tool",
    "delegate",
    "delegate_all",
    "delegate_all_tool",
    "delegate_tool",
    "join_run",
    "llm_map_tool",
    "map_results_tool",
]
