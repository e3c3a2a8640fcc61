"""Sessions: conversations stored verbatim and sent to a model as windows that always fit."""

from mnesis.session.open import DEFAULT_SYSTEM_PROMPT
from mnesis.session.session import MnesisSession

__all__ = ["DEFAULT_SYSTEM_PROMPT", "MnesisSession"]
