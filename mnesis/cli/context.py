"""`mnesis context`: what the model would get now, and how full its window is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, reading
from mnesis.cli.id_lookup import find_session
from mnesis.cli.output import ROLE_STYLES, clean, console, counted, cut, gauge, print_json, table

if TYPE_CHECKING:
    from mnesis.config import MnesisConfig
    from mnesis.models.context import Budget, Window
    from mnesis.models.session import SessionRecord

_GAUGE_WIDTH = 60
# Mark in the gauge, style, and name of each share.
_SHARES = {
    "system": ("s", "magenta", "system prompt"),
    "summaries": ("S", "blue", "summaries"),
    "messages": ("m", "green", "messages"),
    "tool_outputs": ("t", "yellow", "tool outputs"),
}
_FREE = "·"


@click.command(
    "context",
    short_help="Show what the model would be sent.",
    epilog="Example: mnesis context sess_1a --messages | jq .[-1]",
)
@click.argument("session_id", metavar="ID")
@click.option("--messages", "as_messages", is_flag=True, help="Print the request's messages as JSON.")
@click.option("--provider", type=click.Choice(["openai", "anthropic"]), default="openai", show_default=True)
@click.option(
    "--context-limit", type=click.IntRange(min=256), metavar="TOKENS", help="The model's window, if known better."
)
@json_option
@db_option
def command(
    session_id: str, as_messages: bool, provider: str, context_limit: int | None, as_json: bool, db: Place
) -> None:
    """Show exactly what the model would be sent with the next message, and a gauge of its window.

    Marks are those of the default configuration; a session that is opened with another one may have others.
    """
    session, budget, window = asyncio.run(_read(db, session_id, context_limit))
    if as_messages:
        print_json(_rendered(window, provider))
        return
    shares = window_shares(window)
    if as_json:
        print_json(_facts(session, budget, window, shares))
        return
    print_window(session, budget, window)


async def _read(db: Place, session_id: str, context_limit: int | None) -> tuple[SessionRecord, Budget, Window]:
    from mnesis.context.assemble import assemble

    async with reading(db) as store:
        session = await find_session(store, session_id)
        active = await store.active_context(session.id)
    budget, count = session_budget(session, limited(db, context_limit))
    room = int(budget.usable_tokens / session.calibration)
    return session, budget, assemble(active, budget_tokens=room, count=count)


def limited(db: Place, context_limit: int | None, **groups: Any) -> MnesisConfig:
    """The configuration of a command that may know the model's window better than the table does."""
    from mnesis.config import ModelOverrides

    return db.config(model_overrides=ModelOverrides(context_limit=context_limit), **groups)


def session_budget(session: SessionRecord, config: MnesisConfig) -> tuple[Budget, Callable[[str], int]]:
    """The marks of a session under a configuration, and how its model's tokens are counted."""
    from mnesis.context.budget import make_budget
    from mnesis.tokens.estimator import TokenEstimator
    from mnesis.tokens.model_info import ModelInfo

    model = ModelInfo.from_model_string(session.model, config.model_overrides)
    budget = make_budget(model, config.compaction, session.system_tokens)
    counter = TokenEstimator(encoding=model.encoding)
    return budget, lambda text: counter.estimate(text, model.model_id)


def _rendered(window: Window, provider: str) -> object:
    if provider == "anthropic":
        from mnesis.formats.anthropic import anthropic_messages

        return {"system": window.system_prompt, "messages": anthropic_messages(window.messages)}
    from mnesis.formats.openai import chat_messages

    return chat_messages(window.messages, window.system_prompt)


def window_shares(window: Window) -> dict[str, int]:
    """Tokens of a window by what they are spent on."""
    outputs = sum(message.tool_tokens for message in window.messages if not message.is_summary)
    said = sum(message.token_count for message in window.messages if not message.is_summary)
    return {
        "system": window.system_tokens,
        "summaries": sum(message.token_count for message in window.messages if message.is_summary),
        "messages": said - outputs,
        "tool_outputs": outputs,
    }


def _facts(session: SessionRecord, budget: Budget, window: Window, shares: dict[str, int]) -> dict[str, Any]:
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
    """A gauge of a window and a table of what is in it."""
    _print_gauge(session, budget, window, window_shares(window))
    _print_items(window)


def _print_gauge(session: SessionRecord, budget: Budget, window: Window, shares: dict[str, int]) -> None:
    from rich.text import Text

    screen, usable = console(), budget.usable_tokens
    filled = f"{window.tokens:,} of {usable:,} usable tokens ({window.tokens / usable:.0%})"
    screen.print(Text(f"{clean(session.id)}  {clean(session.model)}  {filled}", style="bold"))
    marks = {mark: style for mark, style, _ in _SHARES.values()}
    cells = gauge([(shares[name], mark) for name, (mark, _, _) in _SHARES.items()], usable, _GAUGE_WIDTH)
    screen.print(Text.assemble("[", *((cell.replace(" ", _FREE), marks.get(cell, "dim")) for cell in cells), "]"))
    soft = min(_GAUGE_WIDTH, round(budget.soft_tokens * _GAUGE_WIDTH / usable))
    screen.print(Text(f"{'':{soft + 1}}^ soft {budget.soft_tokens:,}   hard {usable:,} at the end", style="dim"))
    for name, (mark, style, title) in _SHARES.items():
        screen.print(Text.assemble((f"  {mark} ", style), f"{title:<14}{shares[name]:>10,}"))
    screen.print(Text(f"  {_FREE} {'free':<14}{max(0, usable - window.tokens):>10,}"))
    if session.context_tokens != window.tokens:
        screen.print(
            Text(f"    {'as reported':<14}{session.context_tokens:>10,}  (providers count otherwise)", style="dim")
        )
    if window.omitted:
        screen.print(
            Text(f"{counted(window.omitted, 'message')} left out for want of room, behind a marker", style="red")
        )


def _print_items(window: Window) -> None:
    from rich.text import Text

    shown = table("seq", "role", "tokens", "begins", right=("seq", "tokens"), shrinks="begins")
    for message in window.messages:
        role = "summary" if message.is_summary else message.role
        said = (part.text for part in message.parts if part.type == "text")
        text = next(said, "") or ", ".join(part.tool_name for part in message.tool_calls) or "(no text)"
        style = "blue" if message.is_summary else ROLE_STYLES.get(role, "")
        shown.add_row(str(message.seq), Text(role, style=style), f"{message.token_count:,}", cut(text, 90))
    screen = console()
    screen.print()
    screen.print(shown)
