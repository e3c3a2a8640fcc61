"""Operators: maps over many inputs, and sub-agents that do one task each."""

from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.delegation import Task, delegate, delegate_all
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.options import AgenticMapOptions, AgentOptions, DelegateOptions, LLMMapOptions, MapOptions
from mnesis.operators.tools import (
    agentic_map_tool,
    delegate_all_tool,
    delegate_tool,
    llm_map_tool,
    map_results_tool,
)

__all__ = [
    "AgentOptions",
    "AgenticMap",
    "AgenticMapOptions",
    "DelegateOptions",
    "LLMMap",
    "LLMMapOptions",
    "MapOptions",
    "Task",
    "agentic_map_tool",
    "delegate",
    "delegate_all",
    "delegate_all_tool",
    "delegate_tool",
    "llm_map_tool",
    "map_results_tool",
]
