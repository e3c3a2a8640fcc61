"""`mnesis compact`: a compaction now, or what it would do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.context import limited, session_budget
from mnesis.cli.database_option import Place, db_option, existing_database, json_option, reading
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, counted, print_json

if TYPE_CHECKING:
    from mnesis.compaction.plan import SweepPlan
    from mnesis.models.results import CompactionResult
    from mnesis.models.session import SessionRecord

LEVELS = {1: "structured, written by a model", 2: "terse, written by a model", 3: "extracts, made without a model"}


@click.command(
    "compact",
    short_help="Fold a session's context now.",
    epilog="Example: mnesis compact sess_1a --model openai/gpt-4o-mini --dry-run",
)
@click.argument("session_id", metavar="ID")
@click.option("--model", metavar="MODEL", help="Who writes the summaries; by default the session's model.")
@click.option("--dry-run", is_flag=True, help="Say what would be folded; nothing is called, nothing changed.")
@click.option(
    "--context-limit", type=click.IntRange(min=256), metavar="TOKENS", help="The model's window, if known better."
)
@json_option
@db_option
def command(
    session_id: str, model: str | None, dry_run: bool, context_limit: int | None, as_json: bool, db: Place
) -> None:
    """Fold everything but the two newest user turns into summaries. The log keeps every message.

    Without a key for the model the summaries are extracts made without one (level 3); the outcome says so.
    """
    if dry_run:
        session, plan = asyncio.run(_planned(db, session_id, context_limit))
        if as_json:
            print_json(_plan_facts(session, plan))
        else:
            _tell_plan(session, plan)
        return
    result = asyncio.run(_compacted(db, session_id, model, context_limit))
    if as_json:
        print_json(result.model_dump())
    else:
        print(clean(compaction_line(result)))


async def _planned(db: Place, session_id: str, context_limit: int | None) -> tuple[SessionRecord, SweepPlan]:
    from mnesis.compaction.plan import plan_sweep

    async with reading(db) as store:
        session = await find_session(store, session_id)
        context = await store.active_context(session.id)
    config = limited(db, context_limit)
    budget, count = session_budget(session, config)
    return session, plan_sweep(context, budget, config.compaction, count, "manual")


def _plan_facts(session: SessionRecord, plan: SweepPlan) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "dry_run": True,
        "context_tokens": session.context_tokens,
        "folds": [
            {
                "first_seq": run.messages[0].seq,
                "last_seq": run.messages[-1].seq,
                "messages": len(run.messages),
                "tokens": run.tokens,
            }
            for run in plan.fold.runs
        ],
        "pruned_tool_outputs": len(plan.prunes),
        "pruned_tokens": plan.pruned_tokens,
    }


def _tell_plan(session: SessionRecord, plan: SweepPlan) -> None:
    if not plan:
        print(f"session {clean(session.id)}: nothing to fold in {session.context_tokens:,} tokens")
    for run in plan.fold.runs:
        span = f"#{run.messages[0].seq}–{run.messages[-1].seq}"
        print(f"would fold {counted(len(run.messages), 'message')} ({span}) of {run.tokens:,} tokens")
    if plan.prunes:
        outputs = counted(len(plan.prunes), "tool output")
        print(f"would show markers in place of {outputs} of {plan.pruned_tokens:,} tokens")


async def _compacted(db: Place, session_id: str, model: str | None, context_limit: int | None) -> CompactionResult:
    from mnesis.config import CompactionConfig
    from mnesis.engine.engine import Engine
    from mnesis.session.session import MnesisSession

    config = limited(db, context_limit, compaction=CompactionConfig(auto=False, compaction_model=model))
    async with Engine(existing_database(db), config=config) as engine:
        found = await find_session(engine.store, session_id)
        async with await MnesisSession.load(found.id, engine=engine) as session:
            return await session.compact()


def compaction_line(result: CompactionResult) -> str:
    """What a compaction did, for people."""
    if not result.level_used and not result.pruned_tool_outputs:
        return f"nothing to fold: the context stays at {result.tokens_after:,} tokens"
    done = []
    if result.level_used:
        folded = counted(result.compacted_message_count, "message")
        done.append(f"{folded} folded, level {result.level_used} ({LEVELS[result.level_used]})")
    if result.pruned_tool_outputs:
        done.append(f"markers in place of {counted(result.pruned_tool_outputs, 'tool output')}")
    return f"{'; '.join(done)}: {result.tokens_before:,} → {result.tokens_after:,} tokens"
