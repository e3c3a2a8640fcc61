"""`mnesis stats`: totals of a database or a session."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.damage import note_damage
from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option, open_store
from mnesis.cli.id_lookup import select_sessions
from mnesis.cli.output import clean_line, make_console, make_table, print_json

if TYPE_CHECKING:
    from mnesis.models.run import MapRun
    from mnesis.models.session import SessionRecord
    from mnesis.models.summary import Summary
    from mnesis.models.usage import TokenUsage
    from mnesis.store.base import Store

_MAX_RUNS = 1_000


@dataclass
class _LevelTotals:
    """The summaries of one level: tokens read and tokens written."""

    summaries: int = 0
    source_tokens: int = 0
    tokens: int = 0

    def add(self, summary: Summary, source_tokens: int) -> None:
        self.summaries += 1
        self.source_tokens += source_tokens
        self.tokens += summary.token_count

    def to_dict(self) -> dict[str, Any]:
        ratio = round(self.source_tokens / self.tokens, 2) if self.tokens else None
        return {"summaries": self.summaries, "source_tokens": self.source_tokens, "tokens": self.tokens, "ratio": ratio}


@dataclass
class _Totals:
    """Sums over sessions."""

    sessions: int = 0
    messages: int = 0
    turns: int = 0
    context_tokens: int = 0
    cost: float = 0.0
    usage: TokenUsage = field(default_factory=lambda: _no_usage())
    compactions: int = 0
    pruned_outputs: int = 0
    compaction_cost: float = 0.0
    levels: dict[int, _LevelTotals] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    file_ids: set[str] = field(default_factory=set)

    async def add(self, store: Store, session: SessionRecord, *, counts_shared: bool) -> None:
        """Add one session to the totals. Messages that a fork shares are counted with the session that stores them,
        unless the totals are those of the fork alone.
        """
        self.sessions += 1
        self.messages += session.last_seq - (0 if counts_shared else session.inherited_seq)
        shared_ids = (
            set() if counts_shared or session.origin_id is None else await _summary_ids(store, session.origin_id)
        )
        self.turns += session.turn_count
        self.context_tokens += session.context_tokens
        self.cost += session.cost
        self.usage += session.usage
        for result in await store.compactions(session.id):
            self.compactions += 1
            self.pruned_outputs += result.pruned_tool_outputs
            self.compaction_cost += result.cost
        self._add_summaries([each for each in await store.summaries(session.id) if each.id not in shared_ids])
        for call in await store.interruptions(session.id):
            if call.kind == "failed":
                self.failures[call.error_type] += 1
            else:
                self.cancelled += 1
        self.file_ids |= {each.content_id for each in await store.file_references(session_id=session.id)}

    def _add_summaries(self, summaries: Sequence[Summary]) -> None:
        """Add summaries by level. A condensed summary read its children, not the messages behind them."""
        tokens = {summary.id: summary.token_count for summary in summaries}
        for summary in summaries:
            source_tokens = sum(tokens.get(child, 0) for child in summary.child_ids) or summary.source_tokens
            self.levels.setdefault(summary.level, _LevelTotals()).add(summary, source_tokens)

    @property
    def cache_share(self) -> float | None:
        """The fraction of all request tokens that came from the provider's cache. None if nothing was reported."""
        request_tokens = self.usage.input + self.usage.cache_read + self.usage.cache_write
        return self.usage.cache_read / request_tokens if request_tokens else None

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as a JSON object."""
        share = self.cache_share
        return {
            "sessions": self.sessions,
            "messages": self.messages,
            "turns": self.turns,
            "context_tokens": self.context_tokens,
            "usage": self.usage.model_dump(),
            "cache_share": None if share is None else round(share, 4),
            "cost": self.cost,
            "compactions": self.compactions,
            "compaction_cost": self.compaction_cost,
            "pruned_outputs": self.pruned_outputs,
            "levels": {str(level): self.levels[level].to_dict() for level in sorted(self.levels)},
            "failures": dict(sorted(self.failures.items())),
            "cancelled": self.cancelled,
            "stored_files": len(self.file_ids),
        }


@click.command(
    "stats",
    short_help="Show totals: tokens, cost, compactions, failures, sizes.",
    epilog="Example: mnesis stats --json",
)
@click.argument("session_id", metavar="[ID]", required=False)
@json_option
@db_option
def command(session_id: str | None, as_json: bool, db: DatabaseOption) -> None:
    """Show the totals of a database or of one session.

    Usage and cost are lifetime sums of what providers reported, for turns and for summaries. A level's ratio is the
    tokens its summaries replace, divided by the tokens they take. The cache share is the fraction of all sent tokens
    that were read from the cache.
    """
    facts = asyncio.run(_collect(db, session_id))
    if as_json:
        print_json(facts)
    else:
        _print(facts)


async def _collect(db: DatabaseOption, session_id: str | None) -> dict[str, Any]:
    totals = _Totals()
    async with open_store(db) as store:
        for session in await select_sessions(store, session_id):
            if session_id is not None:
                await totals.add(store, session, counts_shared=True)
            else:
                with note_damage(session.id, "its compactions, summaries, failures and files are not counted"):
                    await totals.add(store, session, counts_shared=False)
        facts = totals.to_dict()
        if session_id is None:
            facts["map_runs"] = _run_totals(await store.runs(limit=_MAX_RUNS))
    path = existing_database_path(db)
    sizes = {"database_bytes": 0, "wal_bytes": 0}
    if isinstance(path, Path):
        sizes = {"database_bytes": _size_bytes(path), "wal_bytes": _size_bytes(Path(f"{path}-wal"))}
    return facts | {"database": str(path), **sizes}


async def _summary_ids(store: Store, session_id: str) -> set[str]:
    return {summary.id for summary in await store.summaries(session_id)}


def _run_totals(runs: Sequence[MapRun]) -> dict[str, Any]:
    usage = _no_usage()
    for run in runs:
        usage += run.usage
    return {
        "runs": len(runs),
        "finished": sum(run.is_finished for run in runs),
        "items": sum(run.item_count for run in runs),
        "done": sum(run.done for run in runs),
        "failed": sum(run.failed for run in runs),
        "cost": sum(run.cost for run in runs),
        "usage": usage.model_dump(),
    }


def _no_usage() -> TokenUsage:
    """Return zero usage. The models are imported only if there are sessions to count."""
    from mnesis.models.usage import TokenUsage

    return TokenUsage()


def _size_bytes(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _print(facts: dict[str, Any]) -> None:
    rows = make_table("what", "amount", right=("amount",), shrinking="what")
    for name, amount in _rows(facts):
        rows.add_row(clean_line(name), amount)
    make_console().print(rows)


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("sessions", "messages", "turns", "context_tokens"):
        yield name.replace("_", " "), f"{facts[name]:,}"
    for name, tokens in facts["usage"].items():
        yield f"tokens: {name.replace('_', ' ')}", f"{tokens:,}"
    share = facts["cache_share"]
    yield "cache share", "-" if share is None else f"{share:.1%}"
    yield "cost (US dollars)", f"{facts['cost']:,.4f}"
    yield "compactions", f"{facts['compactions']:,}"
    for level, totals in facts["levels"].items():
        ratio = "-" if totals["ratio"] is None else f"{totals['ratio']:,.1f} : 1"
        yield (
            f"  level {level}: {totals['summaries']:,} summaries, {totals['source_tokens']:,} to {totals['tokens']:,} tokens",
            ratio,
        )
    yield "outputs shown as markers", f"{facts['pruned_outputs']:,}"
    yield "calls without an answer", f"{sum(facts['failures'].values()):,}"
    for name, times in facts["failures"].items():
        yield f"  {name}", f"{times:,}"
    yield "calls cancelled", f"{facts['cancelled']:,}"
    yield "stored files", f"{facts['stored_files']:,}"
    if runs := facts.get("map_runs"):
        yield "map runs", f"{runs['runs']:,}"
        yield f"  items: {runs['done']:,} done, {runs['failed']:,} failed", f"{runs['items']:,}"
    yield "database", f"{facts['database_bytes'] / 1e6:,.1f} MB"
    yield "write-ahead log", f"{facts['wal_bytes'] / 1e6:,.1f} MB"
