"""Framework-neutral tools."""

from mnesis.tools.spec import ToolSpec

__all__ = ["ToolSpec"]
