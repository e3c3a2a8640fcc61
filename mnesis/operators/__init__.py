"""Work on many inputs: maps whose state lives in the database, and agents that do one task each."""

from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.delegation import Task, delegate, delegate_all
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.tools import (
    agentic_map_tool,
    delegate_all_tool,
    delegate_tool,
    llm_map_tool,
    map_results_tool,
)

__all__ = [
    "AgenticMap",
    "LLMMap",
    "Task",
    "agentic_map_tool",
    "delegate",
    "delegate_all",
    "delegate_all_tool",
    "delegate_tool",
    "llm_map_tool",
    "map_results_tool",
]
