"""mnesis for LangChain: histories, a memory runnable, a trimming runnable and agent middleware on one engine.

Needs `pip install "mnesis[langchain]"`; `MnesisMiddleware` needs `pip install "mnesis[langchain-agents]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import langchain_core  # noqa: F401  # asks whether the extra is installed
except ImportError as error:
    raise ImportError('langchain_mnesis needs langchain-core: pip install "mnesis[langchain]"') from error

from langchain_mnesis.factory import HistoryFactory, history_factory, mnesis_history
from langchain_mnesis.history import MnesisChatMessageHistory

if TYPE_CHECKING:
    from langchain_mnesis.middleware import MnesisMiddleware

__all__ = [
    "HistoryFactory",
    "MnesisChatMessageHistory",
    "history_factory",
    "mnesis_history",
]
