"""Tools for models, independent of any framework."""

from mnesis.formats.tool_schemas import anthropic_tools, chat_tools
from mnesis.models.tool import ToolSpec

__all__ = ["ToolSpec", "anthropic_tools", "chat_tools"]
