"""mnesis for the OpenAI Agents SDK: a session that keeps every item and returns a history that fits.

Requires `pip install "mnesis-context[openai-agents]"`.
"""

from __future__ import annotations

try:
    import agents  # noqa: F401  # checks that the extra is installed
except ImportError as error:
    raise ImportError('agents_mnesis needs openai-agents: pip install "mnesis-context[openai-agents]"') from error

from agents_mnesis.session import MnesisAgentSession

__all__ = ["MnesisAgentSession"]
