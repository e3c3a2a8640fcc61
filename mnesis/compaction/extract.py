"""Level 3: a summary without a model, made of the conversation's own words.

The text is cut into sentences (or lines, or clauses of long sentences). Those are taken that add most not yet said per
token: rare words, names, numbers, dates, paths and identifiers, decisions, faults, answers; repetition adds nothing.
Every part of the conversation keeps a share, and a long output gives only its salient lines. Nothing is invented: what
is left out of a sentence is filler words, what is skipped between two sentences of a message shows as `…`. The same
input gives the same output, in time that grows with its length and no faster.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mnesis.compaction.sentences import NOISE, features, is_code, shorten, split_units

Count = Callable[[str], int]

MAX_SPEAKER_CHARS = 24
PREFIX_TOKENS = 4
UNIT_OVERHEAD_TOKENS = 6
"""Added to a unit's cost when gains are compared, so that scraps of two words do not win by being cheap."""

MAX_PARTS = 12
MIN_PART_TOKENS = 60
PARTS_SHARE = 0.5
"""The share of the room that is divided evenly over the parts of the conversation; the rest goes to the best of all."""

LONG_PASSAGE_CHARS = 1_500
"""Longer passages are outputs and files more often than speech: what a sentence adds counts less, by a square root."""

ANSWER_UNITS = 3
ANSWER_FACTOR = 1.3
SHORT_ANSWER_FEATURES = 5
QUESTION_FACTOR = 0.6
FAULT_FACTOR = 1.5
DECISION_FACTOR = 1.5
CODE_FACTOR = 0.4

_QUESTION_MARKS = ("?", "？", "؟")
_FAULT = re.compile(
    r"error|exception|\bfail|fatal|traceback|denied|timed? ?out|错误|失败|エラー|失敗|오류", re.IGNORECASE
)
_DECISION = re.compile(
    r"\b(?:decid|decision|agree|instead|must\b|never\b|always\b|changed\b|cancel|because|deadline|prefer|promis|remember"
    r"|important|entschied|beschloss|stattdessen|müssen|niemals|décid|jamais|toujours|nunca|siempre)"
    r"|决定|必须|改为|決定|必ず|결정",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """Something said in a conversation. `ref` says where, for the caller; it is never part of a summary."""

    speaker: str
    text: str
    ref: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Unit:
    """A sentence, line or clause: where it stands, how it reads when shortened, what it is about.

    `share` is its part of the conversation's length; `question` what a short answer makes no sense without.
    """

    passage: int
    index: int
    text: str
    features: dict[str, float]
    cost: int
    factor: float
    share: float
    question: _Unit | None


def extract(passages: Sequence[Passage], *, max_tokens: int, count: Count) -> str:
    """The most telling sentences of `passages` in their order, a line for each passage, in at most `max_tokens`.

    `count` gives the tokens of a text. What fits as it is, is given whole. "" only where there is nothing to give, or
    no room for a single character.
    """
    whole = _whole(passages, max_tokens)
    if whole is not None and count(whole) <= max_tokens:
        return whole
    units = _units(passages, count)
    chosen = _choose(units, max_tokens)
    return _fitted(passages, chosen, max_tokens, count) or _cut_to_fit(passages, units, max_tokens, count)


def _whole(passages: Sequence[Passage], max_tokens: int) -> str | None:
    # No script has tokens of more than 20 characters on average; counting more would be for nothing.
    if sum(len(passage.text) for passage in passages) > 20 * max_tokens:
        return None
    return "\n".join(_line(passage, " ".join(passage.text.split())) for passage in passages if passage.text.strip())


def _line(passage: Passage, text: str) -> str:
    speaker = " ".join(passage.speaker.split())[:MAX_SPEAKER_CHARS]
    return f"{speaker}: {text}" if speaker else text


def _units(passages: Sequence[Passage], count: Count) -> list[_Unit]:
    units: list[_Unit] = []
    asked: _Unit | None = None
    for number, passage in enumerate(passages):
        own = list(_passage_units(number, passage.text, asked, count))
        asked = next((unit for unit in reversed(own) if unit.text.endswith(_QUESTION_MARKS)), None)
        units.extend(own)
    return units


def _passage_units(number: int, text: str, asked: _Unit | None, count: Count) -> Iterator[_Unit]:
    """`asked` is the question of the passage before: the first sentences here are its answer."""
    parts = [(part, short) for part in split_units(text) if (short := shorten(part))]
    damping = min(1.0, math.sqrt(LONG_PASSAGE_CHARS / max(1, len(text))))
    share = (1 + math.log(len(parts))) / len(parts) if parts else 0.0
    numeric, fenced = _is_numeric(text), False
    for index, (part, short) in enumerate(parts):
        fenced ^= part.startswith("```")
        about = _without_numbers(features(part)) if numeric else features(part)
        answers = asked is not None and index < ANSWER_UNITS
        question = asked if answers and len(about) < SHORT_ANSWER_FEATURES else None
        factor = damping * _factor(part, code=fenced or is_code(part)) * (ANSWER_FACTOR if answers else 1.0)
        yield _Unit(number, index, short, about, count(short) + 1, factor, share, question)


def _is_numeric(text: str) -> bool:
    """Whether numbers are so frequent (logs, tables, listings) that one more says little."""
    words = text.split()
    return 4 * sum(any(map(str.isdigit, word)) for word in words) > len(words) > 20


def _without_numbers(about: dict[str, float]) -> dict[str, float]:
    return {name: NOISE if any(map(str.isdigit, name)) else strength for name, strength in about.items()}


def _factor(text: str, *, code: bool) -> float:
    if text.endswith(_QUESTION_MARKS):
        return QUESTION_FACTOR
    if _FAULT.search(text):
        return FAULT_FACTOR
    if code:
        return CODE_FACTOR
    return DECISION_FACTOR if _DECISION.search(text) else 1.0


def _choose(units: Sequence[_Unit], max_tokens: int) -> list[_Unit]:
    """Units in the order they were taken, somewhat more than fit: what really fits is counted at the end."""
    selection = _Selection(_weights(units))
    number = min(MAX_PARTS, max_tokens // MIN_PART_TOKENS)
    if number > 1:
        for part in _parts(units, number):
            selection.take(part, max_tokens * PARTS_SHARE / number)
    selection.take(units, max_tokens * 1.25 - selection.cost)
    return selection.taken


def _parts(units: Sequence[_Unit], number: int) -> list[list[_Unit]]:
    total = sum(unit.share for unit in units) or 1.0
    parts: list[list[_Unit]] = [[] for _ in range(number)]
    before = 0.0
    for unit in units:
        parts[min(number - 1, int(before * number / total))].append(unit)
        before += unit.share
    return parts


def _weights(units: Sequence[_Unit]) -> dict[str, float]:
    """What each feature is worth: much if it is rare or telling by its form, and somewhat more if it comes back."""
    frequency: Counter[str] = Counter()
    strengths: dict[str, float] = {}
    for unit in units:
        frequency.update(unit.features.keys())
        for name, strength in unit.features.items():
            strengths[name] = max(strengths.get(name, 0.0), strength)
    return {name: strengths[name] * _rarity(times, len(units)) for name, times in frequency.items()}


def _rarity(times: int, units: int) -> float:
    inverse = math.log((units + 1) / times) / math.log(units + 1)
    return inverse**2 * (1 + math.log(times) / 4)


class _Selection:
    """What was taken, what that says, and what it costs."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._weights = weights
        self._said: set[str] = set()
        self._passages: set[int] = set()
        self._members: set[_Unit] = set()
        self.taken: list[_Unit] = []
        self.cost = 0

    def take(self, units: Iterable[_Unit], room: float) -> None:
        """Take the units that add most per token, as far as `room` tokens go."""
        limit = self.cost + room
        waiting = [unit for unit in units if unit not in self._members]
        heap = [(-self._gain(unit), place) for place, unit in enumerate(waiting)]
        heapq.heapify(heap)
        # Gains only shrink as more is said, so the first that is still ahead when looked at again is the largest. The
        # limit on looks keeps the time in proportion where everything repeats everything.
        looks = 20 * len(heap)
        while heap and self.cost < limit:
            _, place = heapq.heappop(heap)
            gain = -self._gain(waiting[place])
            looks -= 1
            if gain < 0 and looks > 0 and heap and gain > heap[0][0]:
                heapq.heappush(heap, (gain, place))
            elif gain < 0 and self.cost + self._cost(waiting[place]) <= limit:
                self._add(waiting[place])

    def _gain(self, unit: _Unit) -> float:
        new = sum(strength for name in unit.features if (strength := self._weights[name]) and name not in self._said)
        return new * unit.factor / (self._cost(unit) + UNIT_OVERHEAD_TOKENS)

    def _cost(self, unit: _Unit) -> int:
        prefix = 0 if unit.passage in self._passages else PREFIX_TOKENS
        asked = unit.question
        return unit.cost + prefix + (asked.cost + PREFIX_TOKENS if asked and asked not in self._members else 0)

    def _add(self, unit: _Unit) -> None:
        self.cost += self._cost(unit)
        for each in (unit.question, unit):
            if each is not None and each not in self._members:
                self.taken.append(each)
                self._members.add(each)
                self._passages.add(each.passage)
                self._said.update(each.features)


def _fitted(passages: Sequence[Passage], chosen: Sequence[_Unit], max_tokens: int, count: Count) -> str:
    """As many of `chosen`, first taken first, as really fit."""
    best, low, high = "", 0, len(chosen)
    while low < high:
        middle = (low + high + 1) // 2
        text = _render(passages, chosen[:middle])
        if count(text) <= max_tokens:
            best, low = text, middle
        else:
            high = middle - 1
    return best


def _render(passages: Sequence[Passage], units: Iterable[_Unit]) -> str:
    by_passage: dict[int, list[_Unit]] = {}
    for unit in sorted(units, key=lambda unit: (unit.passage, unit.index)):
        by_passage.setdefault(unit.passage, []).append(unit)
    return "\n".join(_line(passages[number], _joined(group)) for number, group in by_passage.items())


def _joined(units: Sequence[_Unit]) -> str:
    text = units[0].text
    for before, unit in itertools.pairwise(units):
        text += (" " if unit.index == before.index + 1 else " … ") + unit.text
    return text


def _cut_to_fit(passages: Sequence[Passage], units: Sequence[_Unit], max_tokens: int, count: Count) -> str:
    """The beginning of the best unit, where not even one fits whole."""
    if not units:
        return ""
    weights = _weights(units)
    unit = max(units, key=lambda unit: unit.factor * sum(map(weights.__getitem__, unit.features)))
    text = _line(passages[unit.passage], unit.text)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle] + "…") <= max_tokens else (low, middle - 1)
    return text[:low] + "…" if low else ""
