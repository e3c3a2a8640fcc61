"""`mnesis dag`: the summaries of a session, and what each was made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, reading
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, console, note, print_json

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
    help="For reading, or the source of a drawing.",
)
@json_option
@db_option
def command(session_id: str, form: str, as_json: bool, db: Place) -> None:
    """Show every summary with the summaries it was made of: kind, level, tokens, span of the log, first words.

    Those that the context shows now are marked. `mnesis expand` shows the originals behind one.
    """
    dag = asyncio.run(_read(db, session_id))
    if as_json:
        print_json({"session_id": dag.session_id, "summaries": [_facts(root) for root in dag.roots]})
    elif form == "mermaid":
        print(clean(dag.to_mermaid()), end="")
    elif form == "dot":
        print(clean(dag.to_dot()), end="")
    else:
        console().print(dag)
    if not dag:
        note("no summaries yet: the context shows every message")


async def _read(db: Place, session_id: str) -> SummaryDag:
    from mnesis.models.dag import SummaryDag

    async with reading(db) as store:
        session = await find_session(store, session_id)
        context = await store.active_context(session.id)
        standing = {cover.summary_id for cover in context.covers}
        return SummaryDag.of(session.id, await store.summaries(session.id), standing)


def _facts(node: SummaryNode) -> dict[str, Any]:
    """A summary with everything below it."""
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
        "children": [_facts(child) for child in node.children],
    }
