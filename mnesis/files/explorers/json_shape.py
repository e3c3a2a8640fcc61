"""The merged shape of many JSON values, collected from tokens without building the values, in bounded memory.

Below `MAX_DEPTH` only brackets are counted, so a value nested a million levels deep takes no more memory than one of eight.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mnesis.files.explorers.report import clean_line, plural

MAX_DEPTH = 8
MAX_KEYS = 100
"""Keys of one object shape. Values under further keys are only counted."""
MAX_SHAPES = 3_000
_EXAMPLE_CHARS = 40

_TOKEN = re.compile(
    r'[ \t\r\n:]*+(?:(?P<string>"(?:[^"\\]++|\\.)*+"?)|(?P<mark>[{}\[\],])|(?P<word>[^\s"{}\[\],:]++))', re.DOTALL
)
_WORDS = {"true": "boolean", "false": "boolean", "null": "null"}
_NUMBER = re.compile(r"-?\d+(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?")


@dataclass(slots=True)
class Shape:
    """The values in one place: the number of each type, ranges, and the shapes below."""

    kinds: Counter[str] = field(default_factory=Counter)
    keys: dict[str, Shape] = field(default_factory=dict)
    uncollected_values: int = 0
    items: Shape | None = None
    low: float | None = None
    high: float | None = None
    shortest: int | None = None
    longest: int = 0
    """The length of arrays and objects, or the characters of strings."""
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Frame:
    shape: Shape | None
    is_object: bool
    count: int = 0
    key: str | None = None


class ShapeCollector:
    """A collector fed with JSON texts. `root` is the merged shape of their values."""

    def __init__(self) -> None:
        self.root = Shape()
        self.shape_count = 1
        self.max_depth = 0
        self.is_open = False
        self._depth_below_limit = 0
        self.unknown_words = 0
        """Bare words that are not JSON."""

    def feed(self, text: str, *, is_cut: bool = False) -> None:
        """Add one text, and set `is_open` if it ends inside a value.

        `is_cut` means that the text continues beyond what was read, so a token cut by its end is not counted.
        """
        stack: list[_Frame] = []
        self._depth_below_limit = 0
        for token in _TOKEN.finditer(text):
            kind = token.lastgroup
            if is_cut and stack and kind != "mark" and token.end() == len(text):
                break
            if kind == "mark":
                self._read_mark(token["mark"], stack)
            elif kind == "string" and stack and stack[-1].is_object and stack[-1].key is None:
                stack[-1].key = token["string"][1:-1][:200]
            else:
                self._add_scalar(self._current_shape(stack), token[kind or 0], kind == "string")
        self.is_open = bool(stack)

    def _read_mark(self, mark: str, stack: list[_Frame]) -> None:
        if len(stack) > MAX_DEPTH and (self._depth_below_limit or mark in "{["):
            self._depth_below_limit += (mark in "{[") - (mark in "}]")
            self.max_depth = max(self.max_depth, len(stack) + self._depth_below_limit)
        elif mark in "{[":
            shape = self._current_shape(stack)
            if shape:
                shape.kinds["object" if mark == "{" else "array"] += 1
            stack.append(_Frame(shape, mark == "{"))
            self.max_depth = max(self.max_depth, len(stack))
        elif mark in "}]" and stack:
            frame = stack.pop()
            if frame.shape:
                _record_length(frame.shape, frame.count)
        elif mark == "," and stack:
            stack[-1].key = None

    def _current_shape(self, stack: list[_Frame]) -> Shape | None:
        """Return the shape that counts the value beginning now, or None if it is not counted."""
        if not stack:
            return self.root
        frame = stack[-1]
        frame.count += 1
        if frame.shape is None or len(stack) > MAX_DEPTH:
            return None
        return self._member_shape(frame.shape, frame.key or "") if frame.is_object else self._item_shape(frame.shape)

    def _item_shape(self, shape: Shape) -> Shape:
        if shape.items is None:
            shape.items = Shape()
            self.shape_count += 1
        return shape.items

    def _member_shape(self, shape: Shape, key: str) -> Shape | None:
        known = shape.keys.get(key)
        if known is None and (len(shape.keys) >= MAX_KEYS or self.shape_count >= MAX_SHAPES):
            shape.uncollected_values += 1
        elif known is None:
            known = shape.keys[key] = Shape()
            self.shape_count += 1
        return known

    def _add_scalar(self, shape: Shape | None, text: str, is_string: bool) -> None:
        if shape is None:
            return
        if is_string:
            shape.kinds["string"] += 1
            _record_length(shape, len(text) - 2)
            _record_example(shape, text[1 : _EXAMPLE_CHARS + 2].removesuffix('"'))
        elif number := _NUMBER.fullmatch(text):
            shape.kinds["number" if number["fraction"] or number["exponent"] else "integer"] += 1
            value = float(text)
            shape.low = value if shape.low is None else min(shape.low, value)
            shape.high = value if shape.high is None else max(shape.high, value)
        else:
            known = _WORDS.get(text)
            self.unknown_words += known is None
            shape.kinds[known or "something else"] += 1


def _record_length(shape: Shape, length: int) -> None:
    shape.shortest = length if shape.shortest is None else min(shape.shortest, length)
    shape.longest = max(shape.longest, length)


def _record_example(shape: Shape, text: str) -> None:
    if len(shape.examples) < 3 and text not in shape.examples:
        shape.examples.append(text)


def describe(shape: Shape, name: str, possible_count: int, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield (indent, line) for a shape and those below it. `possible_count` is how often it could have occurred."""
    seen = shape.kinds.total()
    rare = f", in {seen:,} of {possible_count:,}" if seen < possible_count else ""
    yield depth, f"{name}: {' or '.join(kind for kind, _ in shape.kinds.most_common())}{_describe_facts(shape)}{rare}"
    objects = shape.kinds["object"]
    for key, member in shape.keys.items():
        yield from describe(member, clean_line(key, 60), objects, depth + 1)
    if shape.uncollected_values:
        yield depth + 1, f"… and {plural(shape.uncollected_values, 'value')} under further keys"
    if shape.items is not None:
        yield from describe(shape.items, "each item", shape.items.kinds.total(), depth + 1)


def _describe_facts(shape: Shape) -> str:
    facts = []
    if shape.low is not None and shape.high is not None:
        facts.append(f"{shape.low:g} to {shape.high:g}" if shape.low < shape.high else f"{shape.low:g}")
    if shape.shortest is not None:
        noun = "character" if shape.kinds["string"] else "key" if shape.kinds["object"] else "item"
        counts = f"{shape.shortest:,} to {shape.longest:,}" if shape.shortest < shape.longest else f"{shape.longest:,}"
        facts.append(f"{counts} {noun}{'' if counts == '1' else 's'}")
    if shape.examples:
        facts.append("such as " + ", ".join(clean_line(example, _EXAMPLE_CHARS) for example in shape.examples))
    return "".join(f", {fact}" for fact in facts)
