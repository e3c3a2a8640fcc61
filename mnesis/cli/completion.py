"""`mnesis completion`: the script that completes commands, options and session ids in a shell."""

from __future__ import annotations

import asyncio

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
MAX_IDS = 200


class _SessionId(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """The id of a session, or a unique beginning of one. Shells complete it from the database."""

    name = "session_id"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the ids of the newest sessions that begin with the typed text. Never fails: a shell shows no
        errors.
        """
        from mnesis.cli.database_option import DatabaseOption
        from mnesis.cli.output import one_line

        timeout_seconds = 1.0
        try:
            titles = asyncio.run(_titles(DatabaseOption(ctx.params.get("db"), timeout_seconds), incomplete))
        except Exception:
            return []
        return [CompletionItem(value, help=one_line(title, 60)) for value, title in titles.items()]


SESSION_ID = _SessionId()


async def _titles(db: object, beginning: str) -> dict[str, str]:
    from mnesis.cli.database_option import DatabaseOption, all_sessions, open_store

    assert isinstance(db, DatabaseOption)  # noqa: S101  # for the type checker
    titles: dict[str, str] = {}
    async with open_store(db) as store:
        async for session in all_sessions(store):
            if session.id.startswith(beginning) and session.id.isprintable():
                titles[session.id] = session.title or ""
            if len(titles) == MAX_IDS:
                break
    return titles


@click.command(
    "completion",
    short_help="Print the script for completion in a shell.",
    epilog="Example: mnesis completion bash >> ~/.bashrc",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and session ids in SHELL.

    Append it to ~/.bashrc or ~/.zshrc, or write it to ~/.config/fish/completions/mnesis.fish. The ids are those of the
    database in --db, MNESIS_DB or ~/.mnesis/sessions.db.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "one of the shells that click knows"  # noqa: S101  # an invariant, not input
    # Not source(), which asks bash for its version and fails where there is no bash.
    completion = kind(ctx.find_root().command, {}, "mnesis", "_MNESIS_COMPLETE")
    print(completion.source_template % completion.source_vars(), end="")
