"""mnesis for LangChain: chat histories, a memory runnable, a trimming runnable and agent middleware on one engine.

Requires `pip install "mnesis-context[langchain]"`. `MnesisMiddleware` requires `pip install
"mnesis-context[langchain-agents]"`; it is loaded on first use, together with langchain and langgraph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import langchain_core  # noqa: F401  # checks that the extra is installed
except ImportError as error:
    raise ImportError('langchain_mnesis needs langchain-core: pip install "mnesis-context[langchain]"') from error

from langchain_mnesis.chat_model import ChatModelClient
from langchain_mnesis.compact import compact_messages
from langchain_mnesis.history import MnesisChatMessageHistory
from langchain_mnesis.history_factory import HistoryFactory, config_specs, history_factory, mnesis_history
from langchain_mnesis.import_sql_history import aimport_sql_history, import_sql_history
from langchain_mnesis.memory import MnesisMemory
from langchain_mnesis.messages.serialize import dump_message, load_message
from langchain_mnesis.messages.values import Unserialisable

if TYPE_CHECKING:
    from langchain_mnesis.middleware import MnesisMiddleware

__all__ = [
    "ChatModelClient",
    "HistoryFactory",
    "MnesisChatMessageHistory",
    "MnesisMemory",
    "MnesisMiddleware",
    "Unserialisable",
    "aimport_sql_history",
    "compact_messages",
    "config_specs",
    "dump_message",
    "history_factory",
    "import_sql_history",
    "load_message",
    "mnesis_history",
]


def __getattr__(name: str) -> Any:
    if name == "MnesisMiddleware":
        from langchain_mnesis.middleware import MnesisMiddleware

        return MnesisMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
