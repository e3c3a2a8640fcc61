"""Level 3: extractive summaries, made of sentences of the conversation without a model.

Pure functions, no I/O.

The text is split into sentences, lines, or clauses of long sentences. The extract takes the sentences that add the most
new information per token: rare words, names, numbers, dates, paths and identifiers, decisions, errors and answers.
Repetition adds nothing. Each part of the conversation gets a share, and a long output contributes only its salient lines.

Of very long texts, only the blocks with the rarest words and some at even distances are scored (`preselect`).

Nothing is invented. Filler words are removed from sentences, and `…` marks skipped sentences of a message. The same input
gives the same output, in linear time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mnesis.compaction.identifiers import ALSO_MENTIONED, list_missing_identifiers
from mnesis.compaction.preselect import Segment, preselect
from mnesis.compaction.sentences import NOISE_WEIGHT, features, is_code, shorten, split_units
from mnesis.search.analysis import STOP_WORDS
from mnesis.search.variants import index_stem
from mnesis.tokens.estimator import TokenCounter

MAX_SPEAKER_CHARS = 24
PREFIX_TOKENS = 4
"""Tokens for the speaker's name and the line break of a passage."""

UNIT_OVERHEAD_TOKENS = 6
"""Added to a unit's cost when gains are compared; otherwise two-word fragments would win because they are cheap."""

MAX_PARTS = 12
MIN_PART_TOKENS = 60
EVEN_FRACTION = 0.5
"""The fraction of the tokens that is divided evenly over the parts of the conversation. The rest goes to the best units
overall."""

MAX_IDENTIFIERS_FRACTION = 0.45
"""The largest fraction of the tokens for identifiers that the extract lacks. Chats have few, logs of agents many."""

LONG_PASSAGE_CHARS = 1_500
"""Longer passages are usually outputs or files, so their sentences count less, by the square root of the length."""

ANSWER_UNITS = 3
ANSWER_FACTOR = 1.3
SHORT_ANSWER_FEATURES = 5
QUESTION_FACTOR = 0.6
FAULT_FACTOR = 1.5
DECISION_FACTOR = 1.5
CODE_FACTOR = 0.4
PLEASANTRY_FACTOR = 0.2
BABBLE_FACTOR = 0.35
"""The factor for the rest of an answer with a pleasantry that only language models write; such an answer is mostly
general knowledge."""
FOCUS_FACTOR = 10.0
"""The factor for units with a word of the focus, so that they come before sentences full of rare names and errors."""

_QUESTION_MARKS = ("?", "？", "؟")
_FAULT = re.compile(
    r"error|exception|\bfail|fatal|traceback|denied|timed? ?out|错误|失败|エラー|失敗|오류", re.IGNORECASE
)
_MODEL_PHRASE = re.compile(
    r"\b(?:as an ai\b|i(?:['’]m| am) (?:sorry, but|unable to)|i apologi[sz]e for|i(?:['’]d| would) be happy to (?:help|assist)"
    r"|i don['’]t have access to|i cannot (?:help|assist|provide|access)|thank you for (?:sharing|your)|(?:great|good) question"
    r"|it is important to (?:remember|note)|please consult|here to help)",
    re.IGNORECASE,
)
_PLEASANTRY = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|i understand|you['’]re welcome)[!,.]|\b(?:happy to help|feel free|let me know if)\b",
    re.IGNORECASE,
)
_DECISION = re.compile(
    r"\b(?:decid|decision|agree|instead|must\b|never\b|always\b|changed\b|cancel|because|deadline|prefer|promis|remember"
    r"|important|entschied|beschloss|stattdessen|müssen|niemals|décid|jamais|toujours|nunca|siempre)"
    r"|决定|必须|改为|決定|必ず|결정",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of one speaker.

    `ref` is its origin, for the caller; it is never part of a summary.
    """

    speaker: str
    text: str
    ref: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Unit:
    """A sentence, line or clause: its position, shortened text, features and cost in tokens.

    `share` is its part of the conversation's length. `question` is the unit that a short answer needs to make sense.
    """

    passage: int
    index: int
    text: str
    features: dict[str, float]
    cost: int
    factor: float
    share: float
    question: _Unit | None


def extract(passages: Sequence[Passage], *, max_tokens: int, count: TokenCounter, focus: str = "") -> str:
    """Extract the most informative sentences, in order, in at most `max_tokens`.

    The result has one line per passage. `count` returns the tokens of a text. Passages that fit are returned whole.
    Units with words of the `focus` are preferred. Returns "" only if there is no text, or if not even one character fits.
    """
    full_text = _full_text(passages, max_tokens)
    if full_text is not None and count(full_text) <= max_tokens:
        return full_text
    # A line of identifiers of an earlier extract is a source of identifiers, not of sentences.
    sources = [passage for passage in passages if passage.speaker != ALSO_MENTIONED] or passages
    segments = preselect([passage.text for passage in sources])
    scored = zip(sources, segments, strict=True)
    texts = ["\n".join(segment.text for segment in each) for each in segments]
    texts += [passage.text for passage in passages if passage not in sources]
    reserved_tokens = count(list_missing_identifiers(texts, "", int(max_tokens * MAX_IDENTIFIERS_FRACTION), count))
    units = _prefer(_units(scored, count), focus)
    available_tokens = max_tokens - reserved_tokens
    body = _fit(sources, _select(units, available_tokens), available_tokens, count)
    if not body:
        return _cut_best_unit(sources, units, max_tokens, count)
    line = list_missing_identifiers(texts, body, max_tokens - count(body) - 1, count)
    text = f"{body}\n{line}" if line else body
    return text if count(text) <= max_tokens else body


def _prefer(units: list[_Unit], focus: str) -> list[_Unit]:
    """Return the units, with a larger factor for those with a word of the focus."""
    words = {index_stem(name) for name in features(focus) if name not in STOP_WORDS} if focus.strip() else set()
    if not words:
        return units
    preferred: dict[_Unit, _Unit] = {}
    for unit in units:
        factor = FOCUS_FACTOR if words & {index_stem(name) for name in unit.features} else 1.0
        question = preferred.get(unit.question, unit.question) if unit.question is not None else None
        preferred[unit] = replace(unit, factor=unit.factor * factor, question=question)
    return list(preferred.values())


def _full_text(passages: Sequence[Passage], max_tokens: int) -> str | None:
    # No script averages more than 20 characters per token, so counting a longer text is pointless.
    if sum(len(passage.text) for passage in passages) > 20 * max_tokens:
        return None
    return "\n".join(
        _format_line(passage, " ".join(passage.text.split())) for passage in passages if passage.text.strip()
    )


def _format_line(passage: Passage, text: str) -> str:
    speaker = " ".join(passage.speaker.split())[:MAX_SPEAKER_CHARS]
    return f"{speaker}: {text}" if speaker else text


def _units(passages: Iterable[tuple[Passage, Sequence[Segment]]], count: TokenCounter) -> list[_Unit]:
    units: list[_Unit] = []
    question: _Unit | None = None
    for passage_index, (passage, segments) in enumerate(passages):
        passage_units = list(_passage_units(passage_index, passage, segments, question, count))
        question = next((unit for unit in reversed(passage_units) if unit.text.endswith(_QUESTION_MARKS)), None)
        units.extend(passage_units)
    return units


def _passage_units(
    passage_index: int, passage: Passage, segments: Sequence[Segment], question: _Unit | None, count: TokenCounter
) -> Iterator[_Unit]:
    """Yield the units of one passage.

    `question` is asked by the previous passage; the first units answer it.
    """
    text = "\n".join(segment.text for segment in segments)
    parts: list[tuple[int, str, str]] = []
    for segment in segments:
        # Indices skip one where text was left out, so that `…` marks it.
        index = parts[-1][0] + 1 + segment.follows_gap if parts else 0
        shortened = ((part, short) for part in split_units(segment.text) if (short := shorten(part)))
        parts += [(index + i, part, short) for i, (part, short) in enumerate(shortened)]
    damping = min(1.0, math.sqrt(LONG_PASSAGE_CHARS / max(1, len(passage.text))))
    share = (1 + math.log(len(parts))) / len(parts) if parts else 0.0
    is_numeric, is_fenced = _is_numeric(text), False
    is_reply = passage.speaker.lower() == "assistant"
    if is_reply and _MODEL_PHRASE.search(text):
        damping *= BABBLE_FACTOR
    for index, part, short in parts:
        is_fenced ^= part.startswith("```")
        unit_features = _discount_numbers(features(part)) if is_numeric else features(part)
        is_answer = question is not None and index < ANSWER_UNITS
        needed_question = question if is_answer and len(unit_features) < SHORT_ANSWER_FEATURES else None
        factor = damping * _factor(part, code=is_fenced or is_code(part)) * (ANSWER_FACTOR if is_answer else 1.0)
        if is_reply and (_PLEASANTRY.search(part) or _MODEL_PHRASE.search(part)):
            factor *= PLEASANTRY_FACTOR
        yield _Unit(passage_index, index, short, unit_features, count(short) + 1, factor, share, needed_question)


def _is_numeric(text: str) -> bool:
    """Return whether the text is full of numbers, as logs and tables are.

    One more number then adds little information.
    """
    words = text.split()
    return 4 * sum(any(map(str.isdigit, word)) for word in words) > len(words) > 20


def _discount_numbers(weights: dict[str, float]) -> dict[str, float]:
    return {name: NOISE_WEIGHT if any(map(str.isdigit, name)) else weight for name, weight in weights.items()}


def _factor(text: str, *, code: bool) -> float:
    if text.endswith(_QUESTION_MARKS):
        return QUESTION_FACTOR
    if _FAULT.search(text):
        return FAULT_FACTOR
    if code:
        return CODE_FACTOR
    return DECISION_FACTOR if _DECISION.search(text) else 1.0


def _select(units: Sequence[_Unit], max_tokens: int) -> list[_Unit]:
    """Select units, best first, for about a quarter more tokens than fit.

    `_fit` counts exactly and drops the rest.
    """
    selection = _Selection(_weights(units))
    part_count = min(MAX_PARTS, max_tokens // MIN_PART_TOKENS)
    if part_count > 1:
        for part in _split_into_parts(units, part_count):
            selection.add_best(part, max_tokens * EVEN_FRACTION / part_count)
    selection.add_best(units, max_tokens * 1.25 - selection.cost)
    return selection.units


def _split_into_parts(units: Sequence[_Unit], part_count: int) -> list[list[_Unit]]:
    total_share = sum(unit.share for unit in units) or 1.0
    parts: list[list[_Unit]] = [[] for _ in range(part_count)]
    share_before = 0.0
    for unit in units:
        parts[min(part_count - 1, int(share_before * part_count / total_share))].append(unit)
        share_before += unit.share
    return parts


def _weights(units: Sequence[_Unit]) -> dict[str, float]:
    """Return the weight of each feature.

    The weight is high if the feature is rare or a name, and a little higher if it recurs.
    """
    frequencies: Counter[str] = Counter()
    strengths: dict[str, float] = {}
    for unit in units:
        frequencies.update(unit.features.keys())
        for name, strength in unit.features.items():
            strengths[name] = max(strengths.get(name, 0.0), strength)
    return {name: strengths[name] * _rarity(times, len(units)) for name, times in frequencies.items()}


def _rarity(times: int, units: int) -> float:
    inverse = math.log((units + 1) / times) / math.log(units + 1)
    return inverse**2 * (1 + math.log(times) / 4)


class _Selection:
    """The selected units, the features they cover, and their cost in tokens."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._weights = weights
        self._covered_features: set[str] = set()
        self._passages: set[int] = set()
        self._members: set[_Unit] = set()
        self.units: list[_Unit] = []
        self.cost = 0

    def add_best(self, units: Iterable[_Unit], max_tokens: float) -> None:
        """Add the units with the highest gain per token, for up to `max_tokens` more."""
        limit = self.cost + max_tokens
        candidates = [unit for unit in units if unit not in self._members]
        heap = [(-self._gain(unit), index) for index, unit in enumerate(candidates)]
        heapq.heapify(heap)
        # Gains only shrink as units are added, so a unit that still leads after its gain is updated is the best one. The
        # limit on updates keeps the time linear where all units repeat each other.
        remaining_updates = 20 * len(heap)
        while heap and self.cost < limit:
            _, index = heapq.heappop(heap)
            gain = -self._gain(candidates[index])
            remaining_updates -= 1
            if gain < 0 and remaining_updates > 0 and heap and gain > heap[0][0]:
                heapq.heappush(heap, (gain, index))
            elif gain < 0 and self.cost + self._cost(candidates[index]) <= limit:
                self._add(candidates[index])

    def _gain(self, unit: _Unit) -> float:
        new_weight = sum(
            weight for name in unit.features if (weight := self._weights[name]) and name not in self._covered_features
        )
        return new_weight * unit.factor / (self._cost(unit) + UNIT_OVERHEAD_TOKENS)

    def _cost(self, unit: _Unit) -> int:
        prefix = 0 if unit.passage in self._passages else PREFIX_TOKENS
        question = unit.question
        return unit.cost + prefix + (question.cost + PREFIX_TOKENS if question and question not in self._members else 0)

    def _add(self, unit: _Unit) -> None:
        self.cost += self._cost(unit)
        for each in (unit.question, unit):
            if each is not None and each not in self._members:
                self.units.append(each)
                self._members.add(each)
                self._passages.add(each.passage)
                self._covered_features.update(each.features)


def _fit(passages: Sequence[Passage], selected: Sequence[_Unit], max_tokens: int, count: TokenCounter) -> str:
    """Render as many of the selected units, best first, as fit by exact count."""
    best, low, high = "", 0, len(selected)
    while low < high:
        middle = (low + high + 1) // 2
        text = _render(passages, selected[:middle])
        if count(text) <= max_tokens:
            best, low = text, middle
        else:
            high = middle - 1
    return best


def _render(passages: Sequence[Passage], units: Iterable[_Unit]) -> str:
    by_passage: dict[int, list[_Unit]] = {}
    for unit in sorted(units, key=lambda unit: (unit.passage, unit.index)):
        by_passage.setdefault(unit.passage, []).append(unit)
    return "\n".join(
        _format_line(passages[passage_index], _join_units(passage_units))
        for passage_index, passage_units in by_passage.items()
    )


def _join_units(units: Sequence[_Unit]) -> str:
    text = units[0].text
    for previous, unit in itertools.pairwise(units):
        text += (" " if unit.index == previous.index + 1 else " … ") + unit.text
    return text


def _cut_best_unit(passages: Sequence[Passage], units: Sequence[_Unit], max_tokens: int, count: TokenCounter) -> str:
    """Return the beginning of the best unit, if not even one unit fits."""
    if not units:
        return ""
    weights = _weights(units)
    unit = max(units, key=lambda unit: unit.factor * sum(map(weights.__getitem__, unit.features)))
    text = _format_line(passages[unit.passage], unit.text)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle] + "…") <= max_tokens else (low, middle - 1)
    return text[:low] + "…" if low else ""
