"""`mnesis dag`: the summaries of a session and their children."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, make_console, print_json, print_note

if TYPE_CHECKING:
    from mnesis.models.dag import SummaryDag, SummaryNode


@click.command(
    "dag", short_help="Show the tree of summaries.", epilog="Example: mnesis dag sess_1a --json | jq .summaries"
)
@click.argument("session_id", metavar="ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "dot"]),
    default="tree",
    show_default=True,
    help="A tree for reading, or the source of a diagram.",
)
@json_option
@db_option
def command(session_id: str, form: str, as_json: bool, db: DatabaseOption) -> None:
    """Show every summary with its child summaries: kind, level, tokens, span of the log, first words.

    Summaries in the current context are marked. `mnesis expand` shows the originals behind a summary.
    """
    dag = asyncio.run(_read(db, session_id))
    if as_json:
        print_json({"session_id": dag.session_id, "summaries": [_to_dict(root) for root in dag.roots]})
    elif form == "mermaid":
        print(clean(dag.to_mermaid()), end="")
    elif form == "dot":
        print(clean(dag.to_dot()), end="")
    else:
        make_console().print(dag)
    if not dag:
        print_note("no summaries yet: the context shows every message")


async def _read(db: DatabaseOption, session_id: str) -> SummaryDag:
    from mnesis.models.dag import SummaryDag

    async with open_store(db) as store:
        session = await find_session(store, session_id)
        context = await store.active_context(session.id)
        visible_ids = {cover.summary_id for cover in context.covers}
        return SummaryDag.of(session.id, await store.summaries(session.id), visible_ids)


def _to_dict(node: SummaryNode) -> dict[str, Any]:
    """Return a summary and its descendants as a JSON object."""
    summary = node.summary
    return {
        "id": summary.id,
        "kind": summary.kind,
        "depth": summary.depth,
        "level": summary.level,
        "tokens": summary.token_count,
        "source_tokens": summary.source_tokens,
        "first_seq": summary.first_seq,
        "last_seq": summary.last_seq,
        "message_count": summary.message_count,
        "in_context": node.in_context,
        "preview": node.preview,
        "children": [_to_dict(child) for child in node.children],
    }
