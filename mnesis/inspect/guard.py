"""Access control in front of every page: the host name, the token, same-origin changes, and the security headers."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN_BYTES = 24
SAFE_METHODS = frozenset({"GET", "HEAD"})

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # images of messages; a data: image cannot run code
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # "no-referrer" would turn the Origin header of forms into "null" (Fetch standard, "append a request Origin header").
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def new_token() -> str:
    """Return a random token for a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """An ASGI middleware that lets a request through only with the right host name and token.

    A URL with `?token=` sets a cookie and redirects to the same URL without the token. The host name is checked so that a
    web page cannot reach the server by pointing its own name at this machine (DNS rebinding). Requests that change something
    must also come from a page of this server.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = LOOPBACK_NAMES.union(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        app = self._refusal(scope) or self._app
        await app(scope, receive, _with_security_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the response to a rejected request, or None."""
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}")
        if (host.hostname or "") not in self._hosts:
            return PlainTextResponse("This host name is not served here; use the printed URL.\n", 421)
        if scope["path"].startswith("/static/"):
            return None
        cookie_name = f"mnesis-inspect-{host.port or 80}"  # cookies ignore ports, so the name contains it
        if token := dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token"):
            return self._accept_token(scope, token, cookie_name)
        if not self._matches(_read_cookie(headers.get("cookie", ""), cookie_name)):
            return PlainTextResponse("Open the URL that `mnesis inspect` printed: it contains the token.\n", 403)
        if scope["method"] not in SAFE_METHODS and not _is_same_origin(headers, scope["scheme"]):
            return PlainTextResponse("Changes are accepted from the inspector's own pages only.\n", 403)
        return None

    def _accept_token(self, scope: Scope, token: str, cookie_name: str) -> Response:
        if not self._matches(token):
            return PlainTextResponse("This token is not valid (any more); use the printed URL.\n", 403)
        query = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
        path = scope.get("raw_path", b"/").decode("latin-1").partition("?")[0]
        # "//host" would be a redirect to another host.
        target = "/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else "")
        response = RedirectResponse(target, 303)
        # Lax, because a strict cookie is not sent after a redirect that began on another site, such as a notebook's.
        response.set_cookie(cookie_name, self._token, httponly=True, samesite="lax", path="/")
        return response

    def _matches(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


def _read_cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _is_same_origin(headers: Headers, scheme: str) -> bool:
    """Return whether a page of this server sent the request. Browsers send `Origin` with every POST."""
    return headers.get("origin") == f"{scheme}://{headers.get('host')}"


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers
