"""The proxy that the environment names for an address."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def find_proxy(url: str) -> str | None:
    """Return the proxy for requests to `url`: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the system's settings. May block.

    None also for a proxy that is itself reached through TLS, which aiohttp ignores in the environment
    (docs.aiohttp.org/en/stable/client_advanced.html#proxy-support).
    """
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    return proxy if proxy.startswith("http://") else None
