"""Close the HTTP clients that litellm keeps for event loops that have ended.

litellm keeps one client per event loop and drops it after 200 others or ten minutes (litellm/caching/llm_caching_handler.py).
A client dropped after its loop has ended can only be collected, and its aiohttp session then warns in whatever test runs
at that moment (litellm/caching/evicted_client_closer.py: such clients "are left to the collector").
"""

from __future__ import annotations

import sys
from typing import Any


def close_clients_of_ended_loops() -> None:
    """Close and forget litellm's clients whose event loop is closed; those of open loops stay."""
    litellm = sys.modules.get("litellm")
    cache = getattr(litellm, "in_memory_llm_clients_cache", None)
    if cache is None:
        return
    for key, client in list(cache.cache_dict.items()):
        session = _aiohttp_session(client)
        if session is not None and session._loop.is_closed():
            if not session.closed:
                session.connector._close()
            cache.cache_dict.pop(key, None)


def _aiohttp_session(client: Any) -> Any:
    """Return the aiohttp session under an OpenAI client, a handler of litellm or an httpx client, if there is one."""
    for holder in (getattr(client, "_client", None), getattr(client, "client", None), client):
        session = getattr(getattr(holder, "_transport", None), "client", None)
        if hasattr(session, "connector"):
            return session
    return None
