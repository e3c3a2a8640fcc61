"""`mnesis context`: what the model would be sent now, and how full its window is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, json_option, open_store
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import (
    ROLE_STYLES,
    clean_line,
    gauge_cells,
    line_cell,
    make_console,
    make_table,
    pluralize,
    print_json,
)

if TYPE_CHECKING:
    from mnesis.config import MnesisConfig
    from mnesis.models.context import Budget, Window
    from mnesis.models.session import SessionRecord

_GAUGE_WIDTH_CHARS = 60
# Sign in the gauge, style and name of each share.
_SHARE_STYLES = {
    "system": ("s", "magenta", "system prompt"),
    "summaries": ("S", "blue", "summaries"),
    "messages": ("m", "green", "messages"),
    "tool_outputs": ("t", "yellow", "tool outputs"),
}
_FREE_SIGN = "·"


@click.command(
    "context",
    short_help="Show what the model would be sent.",
    epilog="Example: mnesis context sess_1a --messages | jq .[-1]",
)
@click.argument("session_id", metavar="ID")
@click.option("--messages", "as_messages", is_flag=True, help="Print the request's messages as JSON.")
@click.option("--provider", type=click.Choice(["openai", "anthropic"]), default="openai", show_default=True)
@click.option(
    "--context-limit",
    type=click.IntRange(min=256),
    metavar="TOKENS",
    help="The model's context window, if the built-in value is wrong.",
)
@json_option
@db_option
def command(
    session_id: str, as_messages: bool, provider: str, context_limit: int | None, as_json: bool, db: DatabaseOption
) -> None:
    """Show exactly what the model would be sent with the next message, and how full its window is.

    The thresholds are those of the default configuration; a session opened with another configuration may differ.
    """
    session, budget, window = asyncio.run(_read(db, session_id, context_limit))
    if as_messages:
        print_json(_render_request(window, provider))
        return
    shares = window_shares(window)
    if as_json:
        print_json(_to_dict(session, budget, window, shares))
        return
    print_window(session, budget, window)


async def _read(db: DatabaseOption, session_id: str, context_limit: int | None) -> tuple[SessionRecord, Budget, Window]:
    from mnesis.context.assemble import assemble

    async with open_store(db) as store:
        session = await find_session(store, session_id)
        active = await store.active_context(session.id)
    budget, count = budget_and_counter(session, config_with_context_limit(db, context_limit))
    budget_tokens = int(budget.usable_tokens / session.calibration)
    return session, budget, assemble(active, budget_tokens=budget_tokens, count=count)


def config_with_context_limit(db: DatabaseOption, context_limit: int | None, **groups: Any) -> MnesisConfig:
    """Return a configuration in which the model's window is `context_limit` tokens. None keeps the built-in value."""
    from mnesis.config import ModelOverrides

    return db.config(model_overrides=ModelOverrides(context_limit=context_limit), **groups)


def budget_and_counter(session: SessionRecord, config: MnesisConfig) -> tuple[Budget, Callable[[str], int]]:
    """Return the budget of a session under a configuration, and the token counter of its model."""
    from mnesis.context.budget import make_budget
    from mnesis.tokens.estimator import ModelTokenCounter, TokenEstimator
    from mnesis.tokens.model_info import ModelInfo

    model = ModelInfo.from_model_string(session.model, config.model_overrides)
    budget = make_budget(model, config.compaction, session.system_tokens)
    return budget, ModelTokenCounter(TokenEstimator(encoding=model.encoding), model.model_id)


def _render_request(window: Window, provider: str) -> object:
    if provider == "anthropic":
        from mnesis.formats.anthropic import anthropic_messages

        return {"system": window.system_prompt, "messages": anthropic_messages(window.messages)}
    from mnesis.formats.openai import chat_messages

    return chat_messages(window.messages, window.system_prompt)


def window_shares(window: Window) -> dict[str, int]:
    """Return the tokens of a window by category."""
    outputs = sum(message.tool_tokens for message in window.messages if not message.is_summary)
    message_tokens = sum(message.token_count for message in window.messages if not message.is_summary)
    return {
        "system": window.system_tokens,
        "summaries": sum(message.token_count for message in window.messages if message.is_summary),
        "messages": message_tokens - outputs,
        "tool_outputs": outputs,
    }


def _to_dict(session: SessionRecord, budget: Budget, window: Window, shares: dict[str, int]) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "model": session.model,
        "context_tokens": session.context_tokens,
        "window_tokens": window.tokens,
        "window_messages": len(window.messages),
        "omitted_messages": window.omitted,
        "shares": shares,
        "free_tokens": max(0, budget.usable_tokens - window.tokens),
        "budget": asdict(budget),
    }


def print_window(session: SessionRecord, budget: Budget, window: Window) -> None:
    """Print a gauge of a window and a table of its messages."""
    _print_gauge(session, budget, window, window_shares(window))
    _print_items(window)


def _print_gauge(session: SessionRecord, budget: Budget, window: Window, shares: dict[str, int]) -> None:
    from rich.text import Text

    screen, usable = make_console(), budget.usable_tokens
    filled = f"{window.tokens:,} of {usable:,} usable tokens ({window.tokens / usable:.0%})"
    screen.print(Text(f"{clean_line(session.id)}  {clean_line(session.model)}  {filled}", style="bold"))
    marks = {mark: style for mark, style, _ in _SHARE_STYLES.values()}
    cells = gauge_cells(
        [(shares[name], mark) for name, (mark, _, _) in _SHARE_STYLES.items()], usable, _GAUGE_WIDTH_CHARS
    )
    screen.print(Text.assemble("[", *((cell.replace(" ", _FREE_SIGN), marks.get(cell, "dim")) for cell in cells), "]"))
    soft = min(_GAUGE_WIDTH_CHARS, round(budget.soft_tokens * _GAUGE_WIDTH_CHARS / usable))
    screen.print(Text(f"{'':{soft + 1}}^ soft {budget.soft_tokens:,}   hard {usable:,} at the end", style="dim"))
    for name, (mark, style, title) in _SHARE_STYLES.items():
        screen.print(Text.assemble((f"  {mark} ", style), f"{title:<14}{shares[name]:>10,}"))
    screen.print(Text(f"  {_FREE_SIGN} {'free':<14}{max(0, usable - window.tokens):>10,}"))
    if session.context_tokens != window.tokens:
        screen.print(
            Text(f"    {'as reported':<14}{session.context_tokens:>10,}  (providers count differently)", style="dim")
        )
    if window.omitted:
        screen.print(
            Text(f"{pluralize(window.omitted, 'message')} left out to save space, replaced by a marker", style="red")
        )


def _print_items(window: Window) -> None:
    from rich.text import Text

    rows = make_table("seq", "role", "tokens", "begins", right=("seq", "tokens"), shrinking="begins")
    for message in window.messages:
        role = "summary" if message.is_summary else message.role
        texts = (part.text for part in message.parts if part.type == "text")
        text = next(texts, "") or ", ".join(part.tool_name for part in message.tool_calls) or "(no text)"
        style = "blue" if message.is_summary else ROLE_STYLES.get(role, "")
        rows.add_row(str(message.seq), Text(role, style=style), f"{message.token_count:,}", line_cell(text, 90))
    screen = make_console()
    screen.print()
    screen.print(rows)
