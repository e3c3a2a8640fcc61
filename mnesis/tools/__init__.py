"""Framework-neutral tools."""

from mnesis.tools.rendering import anthropic_tools, chat_tools
from mnesis.tools.spec import ToolSpec

__all__ = ["ToolSpec", "anthropic_tools", "chat_tools"]
