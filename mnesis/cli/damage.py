"""Helpers for commands that continue after damage: a note names what they skip, and the exit code reports a problem."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from mnesis.cli.output import clean_line, print_note
from mnesis.errors import CorruptStoreError

_META_KEY = "mnesis.damage_found"


@contextmanager
def note_damage(session_id: str, consequence: str) -> Iterator[None]:
    """Turn damage of a session into a note that names the consequence. The command continues."""
    try:
        yield
    except CorruptStoreError as error:
        print_note(f"note: session {clean_line(session_id)} is damaged, so {consequence}: {error}")
        click.get_current_context().meta[_META_KEY] = True


def was_damage_noted(ctx: click.Context) -> bool:
    """Return whether the command went on past damage."""
    return bool(ctx.meta.get(_META_KEY))
