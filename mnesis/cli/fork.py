"""`mnesis fork`: a new session that continues another one from a message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_engine
from mnesis.cli.id_lookup import find_message_seq, find_session
from mnesis.cli.output import clean_line, pluralize, print_json, print_note

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord


@click.command(
    "fork",
    short_help="Continue a session from any message in a new one.",
    epilog="Example: mnesis fork sess_1a --at 12 --as second-try",
)
@click.argument("session_id", metavar="ID")
@click.option("--at", "last", metavar="SEQ|MESSAGE", help="The last message of the fork; the newest by default.")
@click.option("--as", "new_id", metavar="NEW_ID", help="The id of the new session.")
@json_option
@db_option
def command(session_id: str, last: str | None, new_id: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Create a session that continues ID from a message, and print its id. ID does not change.

    Both share the messages up to there; none is copied. Sessions with forks are only purged together with them.
    """
    fork = asyncio.run(_fork(db, session_id, last, new_id))
    if as_json:
        print_json(_to_dict(fork))
        return
    print(clean_line(fork.id))
    print_note(f"{pluralize(fork.inherited_seq, 'message')} shared; to continue: mnesis chat {clean_line(fork.id)}")


async def _fork(db: DatabaseOption, session_id: str, last: str | None, new_id: str | None) -> SessionRecord:
    async with open_engine(db) as engine:
        origin = await find_session(engine.store, session_id)
        if last is None:
            return await engine.fork(origin.id, new_id=new_id)
        seq = await find_message_seq(engine.store, origin, last)
        (message,) = await engine.store.messages(origin.id, after_seq=seq - 1, until_seq=seq)
        return await engine.fork(origin.id, at=message.id, new_id=new_id)


def _to_dict(fork: SessionRecord) -> dict[str, Any]:
    point = fork.forked_from
    return {
        "session_id": fork.id,
        "forked_from": None if point is None else point.session_id,
        "shared_messages": fork.inherited_seq,
        "message_id": None if point is None else point.message_id,
    }
