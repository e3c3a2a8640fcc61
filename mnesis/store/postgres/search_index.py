"""The search index as ranking reads it: the statements of `mnesis.store.sqlite.ranked_search`, answered from
PostgreSQL's tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from mnesis.store.postgres.rows import Parameters, Row, from_text, to_text
from mnesis.store.postgres.search_terms import LAST_CHARACTER, parse_expression, trigram_hashes
from mnesis.store.postgres.transaction import Answer, Transaction
from mnesis.store.sqlite.queries import statements


class SearchIndex:
    """Answers the statements that ranking sends. Each is recognized by its text and sent by its name.

    `groups` are expressions that are likely to be looked up together. The first lookup of a group sends all of them, so
    a group costs one round trip.
    """

    def __init__(self, transaction: Transaction, groups: Iterable[Sequence[str]] = ()) -> None:
        self._transaction = transaction
        self._groups = {expression: group for group in groups for expression in group}
        self._answers: dict[tuple[Any, ...], Answer | None] = {}
        self._rows: dict[tuple[Any, ...], list[Row]] = {}

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> Iterator[Row]:
        """Return the rows of a statement of the SQLite store."""
        name = _names_by_text()[statement]
        if name == "search_words":
            return self._words(json.loads(parameters["matches"]), json.loads(parameters["spans"]), parameters["limit"])
        if name == "search_trigrams":
            return iter(self._trigrams(dict(parameters)))
        if name == "search_rows":
            spans = json.loads(parameters["spans"])
            places = {"first": [first for first, _ in spans], "last": [last for _, last in spans]}
            rows = self._transaction.rows(name, places)
            return ((key, words, created_at, from_text(speaker)) for key, words, created_at, speaker in rows)
        rows = self._transaction.rows(name, {key: _escape(value) for key, value in parameters.items()})
        if name == "search_speakers":
            return ((session_pk, from_text(speaker), messages) for session_pk, speaker, messages in rows)
        return iter(rows)

    def _words(self, expressions: Sequence[str], spans: Sequence[tuple[int, int]], limit: int) -> Iterator[Row]:
        """Yield the number of each expression with the keys of its messages in each span. Sends all before it reads any."""
        places = [(first, last, limit) for first, last in spans]
        for expression in expressions:
            for each in self._groups.get(expression, [expression]):
                for place in places:
                    if (each, *place) not in self._answers:
                        self._answers[each, *place] = self._send_words(each, place)
        for number, expression in enumerate(expressions):
            for place in places:
                wanted = (expression, *place)
                if wanted not in self._rows:
                    answer = self._answers[wanted]
                    self._rows[wanted] = answer.rows() if answer is not None else []
                yield number, json.dumps([key for (key,) in self._rows[wanted]])

    def _send_words(self, expression: str, place: tuple[int, int, int]) -> Answer | None:
        parameters: Parameters = dict(zip(("first_key", "last_key", "limit"), place, strict=True))
        query = parse_expression(expression)
        if query is None:
            return None
        words = query.exact_words
        if words is None:
            return self._transaction.send(
                "search_beginnings",
                parameters
                | {
                    "first": [word for word, _ in query.words],
                    "last": [word + LAST_CHARACTER if is_beginning else word for word, is_beginning in query.words],
                    "least": len(query.words) if query.must_have_all else 1,
                },
            )
        if len(words) == 1:
            return self._transaction.send("search_word", parameters | {"term": words[0]})
        return self._transaction.send("search_any_word", parameters | {"terms": words})

    def _trigrams(self, parameters: Parameters) -> list[Row]:
        quoted = parameters.pop("match").split(" AND ")
        del parameters["limit"]
        texts = [each[1:-1].replace('""', '"') for each in quoted]
        return self._transaction.rows("search_trigrams", parameters | {"trigrams": trigram_hashes(texts)})


def _escape(value: Any) -> Any:
    return to_text(value) if isinstance(value, str) else value


@cache
def _names_by_text() -> Mapping[str, str]:
    return {statement.sql: name for name, statement in statements().items()}
