"""The inspector as an ASGI application: routes, from requests to pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, MnesisError, NotFoundError
from mnesis.events.change import Change
from mnesis.inspect import paths
from mnesis.inspect.guard import Guard
from mnesis.inspect.render import render
from mnesis.inspect.views import log, runs, search, session_list, stored_files, summaries, tool_calls, usage, window
from mnesis.models.session import SessionRecord
from mnesis.session.session import MnesisSession
from mnesis.store.file_storage import open_file_storage

POLL_SECONDS = 0.2
"""The interval at which the database is polled for an open page."""
HEARTBEAT_SECONDS = 15.0
"""A comment this often keeps proxies from closing an idle event stream."""
MAX_FORM_BYTES = 64 * 1024
STATIC_DIRECTORY = Path(__file__).with_name("static")
Page = Callable[["InspectorApp", Request], Awaitable[Response]]


@dataclass
class InspectorApp:
    """The state that the pages of one inspector share.

    `engine` reads, and changes if `allow_changes` is set. `search_engine` may also write the search index; by default it is
    `engine`. `stop` ends the event streams, so that the server can shut down.
    """

    engine: Engine
    search_engine: Engine
    allow_changes: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def config(self) -> MnesisConfig:
        """The settings from which budgets are computed."""
        return self.engine.config

    async def page(self, request: Request, template: str, *, scope: str = "none", **values: Any) -> Response:
        """Render a page. `scope` says which events refresh it: all, runs, session or none."""
        text = render(
            template,
            **{"session": None, "page": "", "tab": "", "target": None} | values,
            scope=scope,
            cursor=await self.engine.cursor(),
            location=self.engine.store.location,
            allow_changes=self.allow_changes,
        )
        return HTMLResponse(text)

    async def session_page(
        self, request: Request, template: str, session: SessionRecord, tab_title: str, **values: Any
    ) -> Response:
        """Render a page of a session."""
        return await self.page(
            request,
            template,
            scope="session",
            page="session",
            session=session,
            session_title=await session_list.session_title(self.engine.store, session),
            tab_title=tab_title,
            **values,
        )


def create_app(
    engine: Engine,
    *,
    token: str,
    allow_changes: bool = False,
    search_engine: Engine | None = None,
    hosts: Collection[str] = (),
) -> Starlette:
    """Create the ASGI application of an inspector of `engine`, which must be open. `Inspector` runs it in a server.

    Every request needs `token`, in the URL or as a cookie. `hosts` are accepted host names in addition to those of this
    machine.
    """
    app = InspectorApp(engine, search_engine or engine, allow_changes)
    routes = [Route(path, _endpoint(app, page), name=page.__name__) for path, page in _PAGES.items()]
    routes.append(Route("/events", _endpoint(app, _events)))
    if allow_changes:
        routes += [
            Route(f"/s/{{session}}/{name}", _endpoint(app, change), methods=["POST"])
            for name, change in _CHANGES.items()
        ]
        routes.insert(0, Route("/s/{session}/purge", _endpoint(app, _confirm_purge), methods=["GET"]))
    application = Starlette(
        routes=[*routes, Mount("/static", StaticFiles(directory=STATIC_DIRECTORY))],
        exception_handlers={HTTPException: _http_problem(app), MnesisError: _mnesis_problem(app)},
    )
    application.add_middleware(Guard, token=token, hosts=hosts)
    application.state.inspector = app
    return application


def _endpoint(app: InspectorApp, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await page(app, request)

    return endpoint


def _http_problem(app: InspectorApp) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def show(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        heading = {404: "Not found", 405: "Not allowed"}.get(status, "Not possible")
        message = str(getattr(error, "detail", error))
        response = await app.page(request, "problem.html", status=status, heading=heading, message=message)
        response.status_code = status
        return response

    return show


def _mnesis_problem(app: InspectorApp) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def show(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFoundError) else 400 if isinstance(error, ConfigurationError) else 500
        heading = "Not found" if status == 404 else "Not possible"
        response = await app.page(request, "problem.html", status=status, heading=heading, message=str(error))
        response.status_code = status
        return response

    return show


def _id(request: Request, name: str) -> str:
    """Return an id of the path. Raises a 404 error if it is not an id."""
    return _decode(request.path_params[name])


def _decode(segment: str) -> str:
    try:
        return paths.decode_id(segment)
    except ValueError as error:
        raise HTTPException(404, f"there is nothing with the id {segment!r}") from error


def _integer(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


async def _sessions(app: InspectorApp, request: Request) -> Response:
    view = await session_list.list_sessions(app.engine.store, request.query_params)
    query = {**request.query_params, "cursor": view.next_cursor}
    return await app.page(
        request, "sessions.html", scope="all", page="sessions", view=view, next_href=paths.with_query("/", **query)
    )


async def _overview(app: InspectorApp, request: Request) -> Response:
    store, session_id = app.engine.store, _id(request, "session")
    view = await window.read_window(store, session_id, app.config)
    requested = view.session.usage.request_tokens
    return await app.session_page(
        request,
        "overview.html",
        view.session,
        "Overview",
        window=view,
        compactions=await store.compactions(session_id),
        interruptions=await store.interruptions(session_id),
        children=await session_list.child_sessions(store, session_id),
        cached_fraction=view.session.usage.cache_read / requested if requested else None,
    )


async def _log(app: InspectorApp, request: Request) -> Response:
    store, session_id = app.engine.store, _id(request, "session")
    target = _integer(request, "at")
    if target is not None:
        view = await log.read_chunk_around(store, session_id, target)
    else:
        view = await _read_chunk(app, request, session_id)
    return await app.session_page(request, "log.html", view.session, "Log", tab="log", view=view, target=target)


async def _chunk(app: InspectorApp, request: Request) -> Response:
    view = await _read_chunk(app, request, _id(request, "session"))
    return HTMLResponse(render("chunk.html", view=view, target=None, allow_changes=app.allow_changes))


async def _read_chunk(app: InspectorApp, request: Request, session_id: str) -> log.LogChunk:
    after, before = _integer(request, "after"), _integer(request, "before")
    return await log.read_chunk(app.engine.store, session_id, after=after, before=before)


async def _message(app: InspectorApp, request: Request) -> Response:
    store, session_id = app.engine.store, _id(request, "session")
    message = await store.message(session_id, _id(request, "message"))
    session = await store.session(session_id)
    (entry,) = await log.describe(store, session, [message])
    return await app.session_page(request, "message.html", session, f"#{message.seq}", e=entry)


async def _context(app: InspectorApp, request: Request) -> Response:
    view = await window.read_window(app.engine.store, _id(request, "session"), app.config)
    return await app.session_page(request, "context.html", view.session, "Context", tab="context", view=view)


async def _request_json(app: InspectorApp, request: Request) -> Response:
    provider = "anthropic" if request.query_params.get("provider") == "anthropic" else "openai"
    view = await window.read_window(app.engine.store, _id(request, "session"), app.config)
    return await app.session_page(
        request, "request.html", view.session, "Request", provider=provider, text=view.request_json(provider)
    )


async def _dag(app: InspectorApp, request: Request) -> Response:
    view = await summaries.read_dag(app.engine.store, _id(request, "session"))
    return await app.session_page(request, "dag.html", view.session, "Summaries", tab="dag", view=view)


async def _summary(app: InspectorApp, request: Request) -> Response:
    store, session_id, summary_id = app.engine.store, _id(request, "session"), _id(request, "summary")
    view = await summaries.read_summary(store, session_id, summary_id)
    originals = await summaries.read_originals(store, session_id, summary_id, _integer(request, "after") or 0)
    return await app.session_page(request, "summary.html", view.session, "Summary", view=view, originals=originals)


async def _originals(app: InspectorApp, request: Request) -> Response:
    store, after = app.engine.store, _integer(request, "after") or 0
    page = await summaries.read_originals(store, _id(request, "session"), _id(request, "summary"), after)
    return HTMLResponse(render("originals.html", originals=page, target=None, allow_changes=False))


async def _usage(app: InspectorApp, request: Request) -> Response:
    store, session_id = app.engine.store, _id(request, "session")
    turns = await asyncio.to_thread(store.turns, session_id)
    view = await usage.read_usage(store, session_id, app.config, turns)
    return await app.session_page(request, "usage.html", view.session, "Usage", tab="usage", view=view)


async def _tools(app: InspectorApp, request: Request) -> Response:
    view = await tool_calls.read_tool_calls(app.engine.store, _id(request, "session"), request.query_params)
    return await app.session_page(request, "tools.html", view.session, "Tool calls", tab="tools", view=view)


async def _files(app: InspectorApp, request: Request) -> Response:
    view = await stored_files.read_files(app.engine.store, _id(request, "session"))
    return await app.session_page(request, "files.html", view.session, "Files", tab="files", view=view)


async def _file(app: InspectorApp, request: Request) -> Response:
    view = await stored_files.read_file(
        app.engine.store,
        open_file_storage(app.config.file, app.config.store, app.engine.path),
        _id(request, "session"),
        _id(request, "file"),
        line=_integer(request, "line"),
        cursor=request.query_params.get("cursor") or None,
    )
    return await app.session_page(request, "file.html", view.session, "File", view=view)


async def _runs(app: InspectorApp, request: Request) -> Response:
    listed = await runs.list_runs(app.engine.store)
    return await app.page(request, "runs.html", scope="runs", page="runs", runs=listed)


async def _run(app: InspectorApp, request: Request) -> Response:
    view = await runs.read_run(app.engine.store, _id(request, "run"), request.query_params)
    return await app.page(request, "run.html", scope="runs", page="runs", view=view)


async def _search(app: InspectorApp, request: Request) -> Response:
    names = ("q", "session", "mode", "role", "tool", "period", "cursor")
    query = {name: request.query_params.get(name, "") for name in names}
    if within := request.query_params.get("in"):  # the search field on a session's page sends it
        query["session"] = _decode(within)
    await app.search_engine.open()
    view = await search.run_search(app.search_engine.store, query)
    next_href = paths.with_query("/search", **{**query, "cursor": view.next_cursor})
    return await app.page(request, "search.html", page="search", view=view, next_href=next_href)


async def _events(app: InspectorApp, request: Request) -> Response:
    since = request.headers.get("last-event-id") or request.query_params.get("since") or None
    stream = app.engine.changes(since=since, poll_seconds=POLL_SECONDS)
    await stream.start()
    return StreamingResponse(_event_lines(app, stream), media_type="text/event-stream")


async def _event_lines(app: InspectorApp, stream: Any) -> AsyncIterator[str]:
    """Yield server-sent events (HTML standard, 9.2): one per batch of changes, whose id continues after it."""
    yield "retry: 1000\n\n"
    waiting = 0.0
    while not app.stop.is_set():
        batch = await stream.read()
        if batch:
            waiting = 0.0
            yield f"id: {stream.cursor}\ndata: {json.dumps([_to_dict(change) for change in batch])}\n\n"
            continue
        try:
            await asyncio.wait_for(app.stop.wait(), POLL_SECONDS)
        except TimeoutError:
            waiting += POLL_SECONDS
        if waiting >= HEARTBEAT_SECONDS:
            waiting = 0.0
            yield ": still here\n\n"


def _to_dict(change: Change) -> dict[str, Any]:
    payload = change.payload
    fields = {name: payload[name] for name in ("run_id", "seq") if name in payload}
    # Encoded like the page's attribute with which the script compares it.
    session = {"session": paths.encode_id(payload["session_id"])} if "session_id" in payload else {}
    return {"event": str(change.event), **session, **fields}


async def _form(request: Request) -> dict[str, str]:
    """Read a URL-encoded form, of which no field is a file."""
    from urllib.parse import parse_qsl

    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


async def _pin(app: InspectorApp, request: Request) -> Response:
    session_id, form = _id(request, "session"), await _form(request)
    async with await MnesisSession.load(session_id, engine=app.engine) as session:
        message = await session.message(_decode(form.get("message_id", "")))
        await (session.pin if form.get("pinned") == "1" else session.unpin)(message.id)
    return RedirectResponse(f"{paths.session_path(session_id, 'log', at=message.seq)}#m-{message.seq}", 303)


async def _compact(app: InspectorApp, request: Request) -> Response:
    session_id, form = _id(request, "session"), await _form(request)
    if form.get("confirm") != "yes":
        raise HTTPException(400, "check the box to confirm the compaction")
    async with await MnesisSession.load(session_id, engine=app.engine) as session:
        await session.compact()
    return RedirectResponse(paths.session_path(session_id, "usage"), 303)


async def _confirm_purge(app: InspectorApp, request: Request) -> Response:
    store, session_id = app.engine.store, _id(request, "session")
    session = await store.session(session_id)
    children = await session_list.child_sessions(store, session_id)
    return await app.session_page(request, "purge.html", session, "Erase", children=children)


async def _purge(app: InspectorApp, request: Request) -> Response:
    session_id, form = _id(request, "session"), await _form(request)
    if form.get("confirm", "").strip() not in (session_id.strip(), paths.encode_id(session_id)):
        raise HTTPException(400, "the id does not match; nothing was erased")
    await app.engine.purge(session_id)
    return RedirectResponse("/", 303)


async def _health(app: InspectorApp, request: Request) -> Response:
    return PlainTextResponse("ok\n")


_PAGES: dict[str, Page] = {
    "/": _sessions,
    "/health": _health,
    "/search": _search,
    "/runs": _runs,
    "/runs/{run}": _run,
    "/s/{session}": _overview,
    "/s/{session}/log": _log,
    "/s/{session}/log/chunk": _chunk,
    "/s/{session}/m/{message}": _message,
    "/s/{session}/context": _context,
    "/s/{session}/request": _request_json,
    "/s/{session}/dag": _dag,
    "/s/{session}/summary/{summary}": _summary,
    "/s/{session}/summary/{summary}/originals": _originals,
    "/s/{session}/usage": _usage,
    "/s/{session}/tools": _tools,
    "/s/{session}/files": _files,
    "/s/{session}/files/{file}": _file,
}
_CHANGES: dict[str, Page] = {"pin": _pin, "compact": _compact, "purge": _purge}
