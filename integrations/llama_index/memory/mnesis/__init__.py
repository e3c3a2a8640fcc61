"""mnesis for LlamaIndex: a memory for chat engines and agents, and a chat store."""

try:
    from llama_index.core.memory import BaseMemory as _BaseMemory  # noqa: F401  # checks that the extra is installed
except ImportError as error:
    raise ImportError(
        'llama_index.memory.mnesis needs llama-index-core: pip install "mnesis-context[llama-index]"'
    ) from error

from llama_index.memory.mnesis.base import MnesisMemory
from llama_index.memory.mnesis.chat_store import MnesisChatStore
from llama_index.memory.mnesis.events import MnesisCompacted, MnesisHistoryReplaced, MnesisSessionEvent
from llama_index.memory.mnesis.import_simple_store import read_simple_chat_store, write_simple_chat_store
from llama_index.memory.mnesis.tools import function_tools

__all__ = [
    "MnesisChatStore",
    "MnesisCompacted",
    "MnesisHistoryReplaced",
    "MnesisMemory",
    "MnesisSessionEvent",
    "function_tools",
    "read_simple_chat_store",
    "write_simple_chat_store",
]
