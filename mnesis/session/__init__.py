"""Sessions: conversations stored verbatim and sent to a model as windows that always fit."""

from mnesis.session.session import DEFAULT_SYSTEM_PROMPT, MnesisSession

__all__ = ["DEFAULT_SYSTEM_PROMPT", "MnesisSession"]
