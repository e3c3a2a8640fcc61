"""The sets of the recall benchmark: logs with questions, and the split between fitting and reporting.

Weights are chosen on the questions for fitting and reported on the others. Sets of three or more logs are split by log: each third
log is reported. Smaller sets are split by question: each third question is reported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.locomo import ADVERSARIAL, Conversation, Turn, load
from mnesis.models.message import Message, Role, text_message

LONG_MESSAGE_CHARS = 2_000
"""Mean length of the messages of the padded set: that of assistant logs such as BEAM's (Tavakoli et al., 2025)."""


@dataclass(frozen=True)
class Query:
    """A question, the ids of the messages that answer it, the answer, and whether it is for reporting."""

    text: str
    evidence: frozenset[str]
    answer: str
    reported: bool


@dataclass(frozen=True)
class Log:
    """The messages of one session, with its questions."""

    name: str
    messages: tuple[Message, ...]
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class RecallSet:
    """Logs of one kind."""

    name: str
    logs: tuple[Log, ...]


def load_sets(paths: list[Path]) -> Iterator[RecallSet]:
    """Yield the set of each file. A file of chats between people is also yielded with its messages padded."""
    for path in paths:
        samples: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        roles = [_roles(sample) for sample in samples]
        talks = load(path)
        logs = [_log(talk, role_by_id) for talk, role_by_id in zip(talks, roles, strict=True)]
        yield RecallSet(path.stem, split(logs))
        if not any(roles) and len(talks) > 1:
            padded = [_log(pad(talk, talks, number), {}) for number, talk in enumerate(talks)]
            yield RecallSet(f"{path.stem}, padded", split(padded))


def split(logs: list[Log]) -> tuple[Log, ...]:
    """Mark what is for reporting: each third log, or each third question if there are fewer than three logs."""
    if len(logs) >= 3:
        return tuple(_mark(log, [number % 3 == 2] * len(log.queries)) for number, log in enumerate(logs))
    return tuple(_mark(log, [number % 3 == 2 for number in range(len(log.queries))]) for log in logs)


def _mark(log: Log, reported: list[bool]) -> Log:
    queries = (replace(query, reported=mark) for query, mark in zip(log.queries, reported, strict=True))
    return replace(log, queries=tuple(queries))


def pad(talk: Conversation, talks: list[Conversation], number: int) -> Conversation:
    """Return the conversation as an assistant log: each turn is embedded in about 2,000 characters of other conversations.

    The other text comes from talks with other people, so its words compete with the question's but do not answer it.
    """
    rng = random.Random(number)
    filler = [turn.text for other in talks if other is not talk for turn in other.turns]
    turns = [replace(turn, text=_embed(turn, filler, rng)) for turn in talk.turns]
    return replace(talk, turns=turns)


def _embed(turn: Turn, filler: list[str], rng: random.Random) -> str:
    pieces, size = [turn.text], len(turn.text)
    target = LONG_MESSAGE_CHARS * rng.uniform(0.2, 1.8)
    while size < target:
        pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(filler))
        size = sum(map(len, pieces))
    return " ".join(pieces)


def _roles(sample: dict[str, Any]) -> dict[str, Role]:
    sittings = (turns for name, turns in sample["conversation"].items() if isinstance(turns, list))
    return {turn["dia_id"]: turn["role"] for turns in sittings for turn in turns if "role" in turn}


def _log(talk: Conversation, role_by_id: dict[str, Role]) -> Log:
    ids = {turn.id: _realistic_id(talk.name, turn.id) for turn in talk.turns}
    messages = []
    for turn in talk.turns:
        role = role_by_id.get(turn.id) or ("user" if turn.speaker == talk.speakers[0] else "assistant")
        text = turn.text if role_by_id else f"{turn.speaker}: {turn.text}"
        messages.append(text_message(role, text, id=ids[turn.id], created_at=turn.at))
    queries = (
        Query(q.text, frozenset(ids[each] for each in q.evidence), q.answer, False)
        for q in talk.questions
        if q.category != ADVERSARIAL
    )
    return Log(talk.name, tuple(messages), tuple(queries))


def _realistic_id(name: str, turn: str) -> str:
    """Return an id as long as those that mnesis creates, because ids take tokens too."""
    rng = random.Random(f"{name}/{turn}")
    return "msg_" + "".join(rng.choices("0123456789abcdefghjkmnpqrstvwxyz", k=26))
