"""`mnesis compact`: run a compaction now, or show what it would do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.context import budget_and_counter, config_with_context_limit
from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import clean, clean_line, pluralize, print_json

if TYPE_CHECKING:
    from mnesis.compaction.plan import SweepPlan
    from mnesis.models.results import CompactionResult
    from mnesis.models.session import SessionRecord

LEVEL_DESCRIPTIONS = {
    1: "structured, written by a model",
    2: "terse, written by a model",
    3: "extracts, without a model",
}


@click.command(
    "compact",
    short_help="Fold a session's context now.",
    epilog="Example: mnesis compact sess_1a --model openai/gpt-4o-mini --dry-run",
)
@click.argument("session_id", metavar="ID")
@click.option("--model", metavar="MODEL", help="The model that writes the summaries; by default the session's.")
@click.option("--dry-run", is_flag=True, help="Show what would be folded; call no model and change nothing.")
@click.option(
    "--context-limit",
    type=click.IntRange(min=256),
    metavar="TOKENS",
    help="The model's context window, if the built-in value is wrong.",
)
@click.option(
    "--keep-tokens",
    type=click.IntRange(min=0),
    metavar="TOKENS",
    help="Keep this many of the newest tokens instead of the two newest user turns.",
)
@json_option
@db_option
def command(
    session_id: str,
    model: str | None,
    dry_run: bool,
    context_limit: int | None,
    keep_tokens: int | None,
    as_json: bool,
    db: DatabaseOption,
) -> None:
    """Fold everything but the two newest user turns into summaries. The log keeps every message.

    Without an API key for the model, the summaries are extracts (level 3), and the output says so.
    """
    if dry_run:
        session, plan = asyncio.run(_plan(db, session_id, context_limit, keep_tokens))
        if as_json:
            print_json(_plan_to_dict(session, plan))
        else:
            _print_plan(session, plan)
        return
    result = asyncio.run(_compact(db, session_id, model, context_limit, keep_tokens))
    if as_json:
        print_json(result.model_dump())
    else:
        print(clean(describe_compaction(result)))


async def _plan(
    db: DatabaseOption, session_id: str, context_limit: int | None, keep_tokens: int | None
) -> tuple[SessionRecord, SweepPlan]:
    from mnesis.compaction.plan import plan_sweep

    async with open_store(db) as store:
        session = await find_session(store, session_id)
        context = await store.active_context(session.id)
    config = config_with_context_limit(db, context_limit)
    budget, count = budget_and_counter(session, config)
    return session, plan_sweep(context, budget, config.compaction, count, "manual", keep_tokens=keep_tokens)


def _plan_to_dict(session: SessionRecord, plan: SweepPlan) -> dict[str, Any]:
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
            for run in plan.fold.spans
        ],
        "pruned_tool_outputs": len(plan.prunes),
        "pruned_tokens": plan.pruned_tokens,
    }


def _print_plan(session: SessionRecord, plan: SweepPlan) -> None:
    if not plan:
        print(f"session {clean_line(session.id)}: nothing to fold in {session.context_tokens:,} tokens")
    for run in plan.fold.spans:
        span = f"#{run.messages[0].seq}–{run.messages[-1].seq}"
        print(f"would fold {pluralize(len(run.messages), 'message')} ({span}) of {run.tokens:,} tokens")
    if plan.prunes:
        outputs = pluralize(len(plan.prunes), "tool output")
        print(f"would show markers in place of {outputs} of {plan.pruned_tokens:,} tokens")


async def _compact(
    db: DatabaseOption, session_id: str, model: str | None, context_limit: int | None, keep_tokens: int | None
) -> CompactionResult:
    from mnesis.config import CompactionConfig
    from mnesis.engine.engine import Engine
    from mnesis.session.session import MnesisSession

    config = config_with_context_limit(
        db, context_limit, compaction=CompactionConfig(auto=False, compaction_model=model)
    )
    async with Engine(existing_database_path(db), config=config) as engine:
        record = await find_session(engine.store, session_id)
        async with await MnesisSession.load(record.id, engine=engine) as session:
            return await session.compact(keep_tokens=keep_tokens)


def describe_compaction(result: CompactionResult) -> str:
    """Describe the result of a compaction for people."""
    if not result.level_used and not result.pruned_tool_outputs:
        return f"nothing to fold: the context stays at {result.tokens_after:,} tokens"
    changes = []
    if result.level_used:
        folded = pluralize(result.compacted_message_count, "message")
        changes.append(f"{folded} folded, level {result.level_used} ({LEVEL_DESCRIPTIONS[result.level_used]})")
    if result.pruned_tool_outputs:
        changes.append(f"markers in place of {pluralize(result.pruned_tool_outputs, 'tool output')}")
    return f"{'; '.join(changes)}: {result.tokens_before:,} → {result.tokens_after:,} tokens"
