"""The MCP server: lets other programs search and read the sessions of a database (`mnesis mcp`).

Needs the extra `mnesis-context[mcp]`.
"""

try:
    import mcp  # noqa: F401  # reported here, before any module of this package needs it
except ImportError as error:
    raise ImportError("the MCP server needs the official SDK: pip install 'mnesis-context[mcp]'", name="mcp") from error

from mnesis.mcp.memory import Memory as Memory
from mnesis.mcp.memory import Scope as Scope
from mnesis.mcp.server import create_server as create_server

__all__ = ["Memory", "Scope", "create_server"]
