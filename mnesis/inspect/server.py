"""The inspector in a server: in the foreground for `mnesis inspect`, in a thread for notebooks and programs."""

from __future__ import annotations

import asyncio
import socket
import threading
import webbrowser
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from mnesis.engine.engine import Engine
from mnesis.engine.registry import IN_MEMORY
from mnesis.errors import ConfigurationError
from mnesis.inspect.app import create_app
from mnesis.inspect.guard import is_loopback, new_token
from mnesis.inspect.paths import session_path, with_query

DEFAULT_HOST = "127.0.0.1"
LISTEN_BACKLOG = 128
"""Connections that wait until the server accepts them."""

START_TIMEOUT_SECONDS = 30.0


class _Server(uvicorn.Server):
    """A uvicorn server that ends the event streams before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop.set()
        await super().shutdown(sockets)


class Inspector:
    """A web server that shows the content of the database of `engine`.

    `host` is the address to listen on; `allow_remote` must be set for one that other machines can reach. `port` 0
    chooses a free port. `allow_changes` adds pin, compact and purge. `search_engine` may write the search index, if
    `engine` is read-only. `owns_engines`: closing the inspector closes both. The port is opened by the constructor;
    `url` contains the token.

    Raises `ConfigurationError` for an address that other machines can reach, and `OSError` if it cannot be used.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = DEFAULT_HOST,
        port: int = 0,
        allow_changes: bool = False,
        allow_remote: bool = False,
        search_engine: Engine | None = None,
        owns_engines: bool = False,
    ) -> None:
        if not is_loopback(host) and not allow_remote:
            raise ConfigurationError(
                f"host {host!r} can be reached from other machines, and the pages show whole conversations over plain HTTP;"
                " use 127.0.0.1 and an SSH tunnel, or set allow_remote"
            )
        self._engine = engine
        self._search_engine = search_engine
        self._owns_engines = owns_engines
        self._allow_changes = allow_changes
        self._token = new_token()
        self._socket = _listen(host, port)
        self._host = host
        self.port: int = self._socket.getsockname()[1]
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """The address of the server, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the list of sessions, with the token."""
        return self.url_of("/")

    def url_of(self, path: str) -> str:
        """Return the URL of a page, with the token."""
        return self.address + with_query(path, token=self._token)

    def session_url(self, session_id: str) -> str:
        """Return the URL of a session, with the token."""
        return self.url_of(session_path(session_id))

    async def run(self, on_start: Callable[[], None] | None = None) -> None:
        """Serve until interrupted or closed. Opens the engine. `on_start` is called before the first request."""
        await self._engine.open()
        app = self._make_app()
        server = self._server = _Server(self._uvicorn_config(app), app.state.inspector.stop)
        if on_start is not None:
            on_start()
        try:
            await server.serve(sockets=[self._socket])
        finally:
            if self._owns_engines:
                await self._engine.close()
                if self._search_engine is not None:
                    await self._search_engine.close()

    def start(self) -> Inspector:
        """Serve in a thread, and return when requests are accepted. Does nothing if already started."""
        if self._thread is not None:
            return self
        ready = threading.Event()
        failure: list[BaseException] = []

        def serve_in_thread() -> None:
            try:
                asyncio.run(self.run(ready.set))
            except BaseException as error:
                failure.append(error)
                ready.set()

        self._thread = threading.Thread(target=serve_in_thread, name="mnesis-inspect", daemon=True)
        self._thread.start()
        ready.wait(START_TIMEOUT_SECONDS)
        if failure:
            raise failure[0]
        return self

    def close(self) -> None:
        """Stop serving and release the port. Does nothing if already closed."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._socket.close()

    def open_browser(self, path: str = "/") -> bool:
        """Open a page in the user's browser. Returns whether a browser was found."""
        return webbrowser.open(self.url_of(path))

    def __enter__(self) -> Inspector:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Inspector {self.url}>"

    def _repr_html_(self) -> str:
        # The URL consists of an address, a port and URL-safe characters, so that nothing needs escaping.
        return f'<p>mnesis inspector: <a href="{self.url}" target="_blank" rel="noopener">{self.address}</a></p>'

    def _make_app(self) -> Starlette:
        hosts = () if is_loopback(self._host) else (self._host, socket.gethostname())
        return create_app(
            self._engine,
            token=self._token,
            allow_changes=self._allow_changes,
            search_engine=self._search_engine,
            hosts=hosts,
        )

    def _uvicorn_config(self, app: Starlette) -> uvicorn.Config:
        # No access log: URLs contain ids, and the first one the token.
        return uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=5
        )


def open_inspector(engine: Engine, path: str = "/", *, open_browser: bool = True, **options: Any) -> Inspector:
    """Start an inspector of an engine in a thread, open a page in the browser, and return the inspector.

    `options` are those of `Inspector`. Stop it with `close()`; it also ends with the process.
    """
    inspector = Inspector(engine, **options).start()
    if open_browser:
        inspector.open_browser(path)
    return inspector


def inspect_session(engine: Engine, session_id: str, *, open_browser: bool = True, **options: Any) -> Inspector:
    """Start an inspector of the database of an engine, at the page of a session. See `open_inspector`.

    Unless the database is in memory, or changes are allowed, the inspector reads through its own connection, which cannot
    write, and outlives the engine.
    """
    path = session_path(session_id)
    if engine.path == IN_MEMORY:
        return open_inspector(engine, path, open_browser=open_browser, **options)
    is_read_only = not options.get("allow_changes", False)
    store = engine.config.store.model_copy(update={"read_only": is_read_only})
    reader = Engine(engine.path, config=engine.config.model_copy(update={"store": store}))
    searcher = Engine(engine.path, config=engine.config)
    return open_inspector(reader, path, open_browser=open_browser, search_engine=searcher, owns_engines=True, **options)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. The socket listens now, so the port is known, and connections wait for the server
    instead of being refused.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(LISTEN_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
