"""mnesis for Pydantic AI: a capability that keeps every message of an agent and sends the model a history that fits.

Requires `pip install "mnesis-context[pydantic-ai]"`.
"""

from __future__ import annotations

try:
    import pydantic_ai  # noqa: F401  # checks that the extra is installed
except ImportError as error:
    raise ImportError('pydantic_ai_mnesis needs pydantic-ai: pip install "mnesis-context[pydantic-ai]"') from error

from pydantic_ai_mnesis.history import MnesisHistory

__all__ = ["MnesisHistory"]
