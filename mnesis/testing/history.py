"""Attempted and acknowledged messages, and the check that a database agrees: nothing lost, doubled, reordered or
torn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mnesis.errors import MnesisError, SessionNotFoundError
from mnesis.store.base import Store
from mnesis.store.sqlite import SqliteStore


@dataclass
class Attempt:
    """Messages that one call stores, in order. `atomic` means all or none; otherwise a first part may be stored."""

    session_id: str
    texts: tuple[str, ...]
    atomic: bool
    acknowledged: bool = False


@dataclass
class History:
    """All attempts to store messages, in the order in which they began."""

    attempts: list[Attempt] = field(default_factory=list)

    def attempt(self, session_id: str, *texts: str, atomic: bool = True) -> Attempt:
        """Record that a call that stores these texts begins."""
        attempt = Attempt(session_id, texts, atomic)
        self.attempts.append(attempt)
        return attempt

    def reader(self) -> Callable[[str], None]:
        """Return a function that takes the reports of one writer, line by line."""
        latest: list[Attempt] = []

        def read(line: str) -> None:
            kind, *fields = line.split("\t")
            if kind == "attempt":
                session_id, atomic, *texts = fields
                latest.append(self.attempt(session_id, *texts, atomic=bool(atomic)))
            elif latest:
                latest[-1].acknowledged = True

        return read


def find_violations(history: History, logs: dict[str, list[str]]) -> list[str]:
    """Compare a history with the texts of the logs. Does no I/O. A session without a log counts as an empty one.

    - An acknowledged text is there, once. - No text is there twice. - The texts of one attempt follow each other in order.
    - Attempts of one writer keep their order. - An attempt that was not acknowledged is there completely or not at all, or,
    if it is not atomic, as a first part.
    """
    violations: list[str] = []
    last_position: dict[str, int] = {}
    for attempt in history.attempts:
        log = logs.get(attempt.session_id, [])
        positions = [[i for i, text in enumerate(log) if text == wanted] for wanted in attempt.texts]
        violations += [
            f"{text!r} is stored {len(p)} times" for text, p in zip(attempt.texts, positions, strict=True) if len(p) > 1
        ]
        present = [p[0] for p in positions if p]
        is_prefix = all(positions[: len(present)])
        if attempt.acknowledged and len(present) < len(attempt.texts):
            violations.append(
                f"acknowledged, but lost: {[t for t, p in zip(attempt.texts, positions, strict=True) if not p]}"
            )
        elif present and (not is_prefix or (attempt.atomic and len(present) < len(attempt.texts))):
            violations.append(f"stored in part: {[log[position] for position in present]} of {list(attempt.texts)}")
        if present != sorted(present) or (present and present[0] <= last_position.get(attempt.session_id, -1)):
            violations.append(f"out of order: {list(attempt.texts)}")
        if present:
            last_position[attempt.session_id] = max(present)
    return violations


async def read_logs(store: Store, history: History) -> dict[str, list[str]]:
    """Return the texts of every session of a history, in the order of the log."""
    logs = {}
    for session_id in dict.fromkeys(attempt.session_id for attempt in history.attempts):
        try:
            logs[session_id] = [message.text_content() for message in await store.messages(session_id)]
        except SessionNotFoundError:
            logs[session_id] = []
    return logs


async def check_database(path: Path, history: History) -> list[str]:
    """Open a database after a fault and return every violation: of the history, and of the store's own invariants."""
    if not os.path.exists(path):  # noqa: ASYNC240  # one stat call in a test
        return find_violations(history, {})
    return await check_store(SqliteStore(path), history)


async def check_store(store: Store, history: History) -> list[str]:
    """Check a store of any kind in the same way; it is opened and closed."""
    try:
        await store.open()
        violations = find_violations(history, await read_logs(store, history))
        findings = await store.check()
    except MnesisError as error:
        return [f"the database cannot be read: {error}"]
    finally:
        await store.close()
    return violations + [f"doctor: {finding.detail}" for finding in findings if finding.severity == "error"]
