"""The full-text index, on any connection that has its tables: adding messages, and ranking them for a question.

Keys are session_pk << 32 | seq. Small logs are ranked whole. In large ones the stretches are chosen first that hold most
of what the question asks for, and only those are ranked: the cost of a search does not follow the length of the log.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from mnesis.formats.text import readable
from mnesis.models.message import Message
from mnesis.models.search import Search
from mnesis.search.analysis import RULES_VERSION, indexed, question_words
from mnesis.search.dates import named_dates
from mnesis.search.ranking import Row, Word, inverse_frequency, rank
from mnesis.store.sqlite.queries import sql

SEQ_BITS = 32
STRETCH_BITS = 5
"""Large logs are chosen from in stretches of 2**5 messages."""
WHOLE_MESSAGES = 4_096
MAX_STRETCHES = 32
MAX_KEYS = 3_000
"""How many messages with one word are looked at in a large log; a word that more of them have says little."""
MAX_TRIGRAMS = 64
SPEAKER_SHARE = 0.1
"""A name before a colon is a speaker's if this share of the messages begins with it; "Error:" seldom does."""

Span = tuple[int, int]


def key_of(session_pk: int, seq: int) -> int:
    """The key of a message in the index."""
    return session_pk << SEQ_BITS | seq


def seq_of(key: int) -> int:
    """The place of a message in its log."""
    return key & (1 << SEQ_BITS) - 1


@dataclass(frozen=True, slots=True)
class Log:
    """A log to be searched, up to `last_seq`."""

    pk: int
    session_id: str
    last_seq: int

    @property
    def span(self) -> Span:
        return key_of(self.pk, 1), key_of(self.pk, self.last_seq)


@dataclass(frozen=True)
class Logs:
    """The logs of one search, in order of their keys."""

    logs: tuple[Log, ...]

    @cached_property
    def total(self) -> int:
        return sum(log.last_seq for log in self.logs)

    @property
    def span(self) -> Span:
        """From the first message to the last; nothing if there are no logs."""
        return (self.logs[0].span[0], self.logs[-1].span[1]) if self.logs else (1, 0)

    def log(self, key: int) -> Log:
        """The log that a key belongs to."""
        return self._by_pk[key >> SEQ_BITS]

    @cached_property
    def _by_pk(self) -> dict[int, Log]:
        return {log.pk: log for log in self.logs}

    def holds(self, key: int) -> bool:
        log = self._by_pk.get(key >> SEQ_BITS)
        return log is not None and seq_of(key) <= log.last_seq


def reach(connection: sqlite3.Connection, session_pk: int) -> tuple[int, int]:
    """How far a session is indexed: for words, for substrings."""
    row = connection.execute(sql("search_state"), {"session_pk": session_pk, "rules": RULES_VERSION}).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def drop_outdated(connection: sqlite3.Connection) -> None:
    """Throw the index away if other rules made it."""
    if connection.execute(sql("search_outdated"), {"rules": RULES_VERSION}).fetchone():
        empty(connection)


def empty(connection: sqlite3.Connection) -> None:
    """Throw the whole index away. Its rows hold no text, so those of one session cannot be taken out alone."""
    for statement in (
        "empty_search_words",
        "empty_search_trigrams",
        "empty_search_rows",
        "empty_search_speakers",
        "empty_search_state",
    ):
        connection.execute(sql(statement))


def add_words(connection: sqlite3.Connection, session_pk: int, messages: Iterable[Message], last_seq: int) -> None:
    """Index the next messages of a session, which reach up to `last_seq`."""
    for message in messages:
        found, key = indexed(message), key_of(session_pk, message.seq)
        row = (key, found.words, message.created_at, message.role, found.speaker, found.tools)
        connection.execute(sql("insert_search_words"), (key, _whole(found.text)))
        connection.execute(sql("insert_search_row"), row)
        if found.speaker:
            connection.execute(sql("insert_search_speaker"), (session_pk, found.speaker))
    parameters = {"session_pk": session_pk, "rules": RULES_VERSION, "seq": last_seq}
    connection.execute(sql("set_search_words"), parameters)


def add_trigrams(connection: sqlite3.Connection, session_pk: int, messages: Iterable[Message], last_seq: int) -> None:
    """Index the next messages of a session, which reach up to `last_seq`, for substrings."""
    for message in messages:
        text = _whole(readable(message).encode("utf-8", "replace").decode())
        connection.execute(sql("insert_search_trigrams"), (key_of(session_pk, message.seq), text))
    parameters = {"session_pk": session_pk, "rules": RULES_VERSION, "seq": last_seq}
    connection.execute(sql("set_search_trigrams"), parameters)


def _whole(text: str) -> str:
    """The text as it may be indexed: for the index, a NUL would be its end."""
    return text.replace("\0", " ")


def ranked(
    connection: sqlite3.Connection, logs: Logs, search: Search, behind: frozenset[int] | None
) -> list[tuple[int, float]]:
    """Keys and scores of the messages that have to do with a question, best first.

    `behind` are the places that stand behind `search.summary_id`.
    """
    groups = question_words(search.query)
    words = [word for forms in groups if (word := _word(connection, logs, forms)).keys]
    if not words:
        return []
    allowed = _allowed(connection, logs, search, behind)
    spans = [logs.span]
    if logs.total > WHOLE_MESSAGES:
        spans = _stretches(words, logs, allowed)
        words = [_completed(connection, logs, word, spans) for word in words]
    rows = [row for span in spans for row in _rows(connection, logs, span)]
    found = rank(rows, words, logs.total, _speakers(connection, logs), named_dates(search.query))
    return [hit for hit in found if allowed is None or hit[0] in allowed]


def _word(connection: sqlite3.Connection, logs: Logs, forms: tuple[str, ...]) -> Word:
    most = WHOLE_MESSAGES if logs.total <= WHOLE_MESSAGES else MAX_KEYS
    keys = _keys(connection, forms, logs.span, most)
    frequency = len(keys) if len(keys) < most else max(most, logs.total // 4)
    return Word(forms, frozenset(filter(logs.holds, keys)) if len(logs.logs) > 1 else frozenset(keys), frequency)


def _keys(connection: sqlite3.Connection, forms: Iterable[str], span: Span, most: int) -> list[int]:
    match = " OR ".join(f'"{form}"' for form in forms)
    parameters = {"match": match, "first_key": span[0], "last_key": span[1], "limit": most}
    return [key for (key,) in connection.execute(sql("search_words"), parameters)]


def _completed(connection: sqlite3.Connection, logs: Logs, word: Word, spans: Sequence[Span]) -> Word:
    """The word with all messages in `spans` that have it, where not all of them were looked at."""
    if word.frequency < MAX_KEYS:
        return word
    keys = (key for span in spans for key in _keys(connection, word.forms, span, MAX_KEYS))
    return Word(word.forms, frozenset(filter(logs.holds, keys)), word.frequency)


def _stretches(words: Sequence[Word], logs: Logs, allowed: frozenset[int] | None) -> list[Span]:
    """The stretches that hold most of what the words weigh, in order."""
    rare = [word for word in words if word.frequency < MAX_KEYS] or words
    open_to = None if allowed is None else {key >> STRETCH_BITS for key in allowed}
    weight: Counter[int] = Counter()
    for word in rare:
        gain = inverse_frequency(word.frequency, logs.total)
        for stretch in {key >> STRETCH_BITS for key in word.keys}:
            weight[stretch] += gain  # type: ignore[assignment]  # a Counter of weights
    chosen = heapq.nlargest(
        MAX_STRETCHES,
        ((gain, stretch) for stretch, gain in weight.items() if open_to is None or stretch in open_to),
    )
    return list(_joined(sorted(stretch for _, stretch in chosen)))


def _joined(stretches: Sequence[int]) -> Iterator[Span]:
    """Stretches as spans of keys, neighbours in one."""
    starts = [b for a, b in pairwise([-2, *stretches]) if b != a + 1]
    ends = [a for a, b in pairwise([*stretches, 1 << 62]) if b != a + 1]
    for start, end in zip(starts, ends, strict=True):
        yield start << STRETCH_BITS, (end + 1 << STRETCH_BITS) - 1


def _rows(connection: sqlite3.Connection, logs: Logs, span: Span) -> Iterable[Row]:
    parameters = {"first_key": max(span[0], logs.span[0]), "last_key": min(span[1], logs.span[1])}
    rows = map(Row._make, connection.execute(sql("search_rows"), parameters))
    return rows if len(logs.logs) == 1 else (row for row in rows if logs.holds(row.key))


def _speakers(connection: sqlite3.Connection, logs: Logs) -> set[str]:
    return {
        speaker
        for log in logs.logs
        for (speaker,) in connection.execute(
            sql("search_speakers"), {"session_pk": log.pk, "least": log.last_seq * SPEAKER_SHARE}
        )
    }


def _allowed(
    connection: sqlite3.Connection, logs: Logs, search: Search, behind: frozenset[int] | None
) -> frozenset[int] | None:
    """The keys a filter lets through; None if there is none."""
    if not search.is_filtered:
        return None
    parameters = {
        "first_key": logs.span[0],
        "last_key": logs.span[1],
        "role": search.role,
        "tool": search.tool,
        "after": search.after,
        "before": search.before,
    }
    keys = (key for (key,) in connection.execute(sql("search_filtered"), parameters))
    return frozenset(key for key in keys if behind is None or seq_of(key) in behind)


def with_substring(
    connection: sqlite3.Connection, logs: Logs, search: Search, behind: frozenset[int] | None
) -> Iterator[int]:
    """Keys of the messages that may hold `search.query` as it stands, newest first; the caller looks for it there."""
    allowed = _allowed(connection, logs, search, behind)
    wanted = trigrams(search.query)
    if wanted:
        parameters = {"match": " AND ".join(wanted), "first_key": logs.span[0], "last_key": logs.span[1], "limit": -1}
        keys: Iterable[int] = (key for (key,) in connection.execute(sql("search_trigrams"), parameters))
    else:
        keys = (key_of(log.pk, seq) for log in reversed(logs.logs) for seq in range(log.last_seq, 0, -1))
    return (key for key in keys if logs.holds(key) and (allowed is None or key in allowed))


def _folds_as_the_index_does(text: str) -> bool:
    return text.isascii() or (text.isalnum() and text.lower() == text.upper())


def trigrams(text: str) -> list[str]:
    """Some of the trigrams of a text, quoted; none if it is too short for the index to help."""
    # "İ" has two characters in lower case, but not in the index.
    text = text.lower().replace("i\u0307", "\0")
    found = dict.fromkeys(text[i : i + 3] for i in range(len(text) - 2))
    usable = [trigram for trigram in found if "\0" not in trigram and _folds_as_the_index_does(trigram)]
    step = max(1, len(usable) // MAX_TRIGRAMS)
    return ['"{}"'.format(trigram.replace('"', '""')) for trigram in usable[::step]]
