"""`mnesis mcp`: the MCP server of a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from mnesis.cli.database_option import DatabaseOption, database_path, db_option, existing_database_path
from mnesis.cli.output import print_note

if TYPE_CHECKING:
    from mnesis.mcp.memory import Scope
    from mnesis.recall.grants import Grant


@click.command(
    "mcp",
    short_help="Serve a memory to MCP clients.",
    epilog="Example: mnesis mcp --prefix work/ --transport http --port 8765",
)
@click.option(
    "--transport", type=click.Choice(("stdio", "http")), default="stdio", show_default=True, help="How clients connect."
)
@click.option("--session", "session_ids", multiple=True, metavar="ID", help="Only this session; may be repeated.")
@click.option("--prefix", default="", metavar="TEXT", help="Only sessions whose id begins with this.")
@click.option("--allow-record", is_flag=True, help="Let clients store turns. The database is created if necessary.")
@click.option(
    "--tokens",
    type=click.IntRange(min=200),
    metavar="N",
    help="How many tokens clients may read in total. Default: 200000.",
)
@click.option(
    "--result-tokens",
    type=click.IntRange(min=200),
    metavar="N",
    help="How many tokens one result may have. Default: 4000.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="How long clients may read. Default: no limit.",
)
@click.option(
    "--host", metavar="ADDRESS", help="Address for http instead of 127.0.0.1; other machines may then connect."
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port for http; by default a free one.")
@db_option
def command(
    transport: str, session_ids: tuple[str, ...], prefix: str, allow_record: bool, tokens: int | None,
    result_tokens: int | None, seconds: float | None, host: str | None, port: int, db: DatabaseOption,
) -> None:  # fmt: skip
    """Serve the sessions of a database to MCP clients, so that an assistant can search its own past.

    Tools: search, sessions, lcm_grep, lcm_describe, lcm_expand, and with --allow-record also record. Sessions, messages and
    summaries are resources too. Nothing is written without --allow-record, except the search index. What clients may read is
    limited: to the sessions of --session and --prefix, and to --tokens, --result-tokens and --seconds.

    http serves on this machine only, and only to clients that send the token it prints, or that of MNESIS_MCP_TOKEN.
    """
    try:
        import mnesis.mcp  # noqa: F401  # first, so that a missing extra is reported before anything is opened
    except ImportError as error:
        raise click.UsageError(str(error)) from error
    from mnesis.mcp.memory import DEFAULT_RESULT_TOKENS, DEFAULT_TOTAL_TOKENS, Scope
    from mnesis.recall.grants import Grant

    grant = Grant(
        tokens=tokens or DEFAULT_TOTAL_TOKENS,
        result_tokens=result_tokens or DEFAULT_RESULT_TOKENS,
        depth=None,
        seconds=seconds,
    )
    scope = Scope(frozenset(session_ids), prefix)
    asyncio.run(_serve(db, scope, grant, allow_record, transport, host, port))


async def _serve(
    db: DatabaseOption, scope: Scope, grant: Grant, allow_record: bool, transport: str, host: str | None, port: int
) -> None:
    from mnesis.engine.engine import Engine
    from mnesis.mcp.memory import Memory
    from mnesis.mcp.server import DEFAULT_HOST, serve_http, serve_stdio

    path = database_path(db) if allow_record else existing_database_path(db)
    search_engine = Engine(path, config=db.config())
    engine = search_engine if allow_record else Engine(path, config=db.config(read_only=True))
    memory = Memory(engine, scope, grant, search_engine, allow_record)
    try:
        await engine.open()  # reported here, because a client cannot show why each of its calls fails
        if transport == "stdio":
            await serve_stdio(memory)
        else:
            if host is not None:
                print_note(
                    "note: anyone who can reach this address and knows the token can read these sessions, over plain HTTP"
                )
            await serve_http(memory, host or DEFAULT_HOST, port, _announce)
    finally:
        await engine.close()
        await search_engine.close()


def _announce(url: str, token: str) -> None:
    print(url, flush=True)
    print_note(f"clients send the header: Authorization: Bearer {token}\npress Ctrl-C to stop")
