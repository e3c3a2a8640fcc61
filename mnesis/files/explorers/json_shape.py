"""The merged shape of many JSON values, collected from tokens without building the values. Bounded in memory.

Below `MAX_DEPTH` brackets are only counted, so a value nested a million deep needs no more than one nested eight deep.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mnesis.files.explorers.report import clean, plural

MAX_DEPTH = 8
MAX_KEYS = 100
"""Keys of one object shape; further ones are counted, not kept."""
MAX_SHAPES = 3_000
_EXAMPLE_CHARS = 40

_TOKEN = re.compile(
    r'[ \t\r\n:]*+(?:(?P<string>"(?:[^"\\]++|\\.)*+"?)|(?P<mark>[{}\[\],])|(?P<word>[^\s"{}\[\],:]++))', re.DOTALL
)
_WORDS = {"true": "boolean", "false": "boolean", "null": "null"}
_NUMBER = re.compile(r"-?\d+(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?")


@dataclass(slots=True)
class Shape:
    """What stood in one place: how often each type, ranges, and the shapes below it."""

    kinds: Counter[str] = field(default_factory=Counter)
    keys: dict[str, Shape] = field(default_factory=dict)
    further_keys: int = 0
    items: Shape | None = None
    low: float | None = None
    high: float | None = None
    shortest: int | None = None
    longest: int = 0
    """Of arrays and objects their length, of other values the characters of a string."""
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Frame:
    shape: Shape | None
    is_object: bool
    count: int = 0
    key: str | None = None


class Collector:
    """Feed it JSON texts; `root` is the merged shape of what they hold."""

    def __init__(self) -> None:
        self.root = Shape()
        self.shapes = 1
        self.deepest = 0
        self.is_open = False
        self._below = 0
        self.strange = 0
        """Words that JSON does not know."""

    def feed(self, text: str, *, is_cut: bool = False) -> None:
        """One text; sets `is_open` when it ends inside a value. `is_cut`: more of it follows that is not read, so what its
        end divides is not counted."""
        stack: list[_Frame] = []
        self._below = 0
        for found in _TOKEN.finditer(text):
            kind = found.lastgroup
            if is_cut and stack and kind != "mark" and found.end() == len(text):
                break
            if kind == "mark":
                self._mark(found["mark"], stack)
            elif kind == "string" and stack and stack[-1].is_object and stack[-1].key is None:
                stack[-1].key = found["string"][1:-1][:200]
            else:
                self._scalar(self._place(stack), found[kind or 0], kind == "string")
        self.is_open = bool(stack)

    def _mark(self, mark: str, stack: list[_Frame]) -> None:
        if len(stack) > MAX_DEPTH and (self._below or mark in "{["):
            self._below += (mark in "{[") - (mark in "}]")
            self.deepest = max(self.deepest, len(stack) + self._below)
        elif mark in "{[":
            shape = self._place(stack)
            if shape:
                shape.kinds["object" if mark == "{" else "array"] += 1
            stack.append(_Frame(shape, mark == "{"))
            self.deepest = max(self.deepest, len(stack))
        elif mark in "}]" and stack:
            frame = stack.pop()
            if frame.shape:
                _measure(frame.shape, frame.count)
        elif mark == "," and stack:
            stack[-1].key = None

    def _place(self, stack: list[_Frame]) -> Shape | None:
        """Where the value that begins now is to be counted; None where it is not."""
        if not stack:
            return self.root
        frame = stack[-1]
        frame.count += 1
        if frame.shape is None or len(stack) > MAX_DEPTH:
            return None
        return self._member(frame.shape, frame.key or "") if frame.is_object else self._item(frame.shape)

    def _item(self, shape: Shape) -> Shape:
        if shape.items is None:
            shape.items = Shape()
            self.shapes += 1
        return shape.items

    def _member(self, shape: Shape, key: str) -> Shape | None:
        known = shape.keys.get(key)
        if known is None and (len(shape.keys) >= MAX_KEYS or self.shapes >= MAX_SHAPES):
            shape.further_keys += 1
        elif known is None:
            known = shape.keys[key] = Shape()
            self.shapes += 1
        return known

    def _scalar(self, shape: Shape | None, text: str, is_string: bool) -> None:
        if shape is None:
            return
        if is_string:
            shape.kinds["string"] += 1
            _measure(shape, len(text) - 2)
            _exemplify(shape, text[1 : _EXAMPLE_CHARS + 2].removesuffix('"'))
        elif number := _NUMBER.fullmatch(text):
            shape.kinds["number" if number["fraction"] or number["exponent"] else "integer"] += 1
            value = float(text)
            shape.low = value if shape.low is None else min(shape.low, value)
            shape.high = value if shape.high is None else max(shape.high, value)
        else:
            known = _WORDS.get(text)
            self.strange += known is None
            shape.kinds[known or "something else"] += 1


def _measure(shape: Shape, length: int) -> None:
    shape.shortest = length if shape.shortest is None else min(shape.shortest, length)
    shape.longest = max(shape.longest, length)


def _exemplify(shape: Shape, text: str) -> None:
    if len(shape.examples) < 3 and text not in shape.examples:
        shape.examples.append(text)


def describe(shape: Shape, name: str, of: int, depth: int = 0) -> Iterator[tuple[int, str]]:
    """(indent, line) of the shape and those below it. `of`: how often it could have been there."""
    seen = shape.kinds.total()
    rare = f", in {seen:,} of {of:,}" if seen < of else ""
    yield depth, f"{name}: {' or '.join(kind for kind, _ in shape.kinds.most_common())}{_facts(shape)}{rare}"
    objects = shape.kinds["object"]
    for key, member in shape.keys.items():
        yield from describe(member, clean(key, 60), objects, depth + 1)
    if shape.further_keys:
        yield depth + 1, f"… and {plural(shape.further_keys, 'value')} under further keys"
    if shape.items is not None:
        yield from describe(shape.items, "each item", shape.items.kinds.total(), depth + 1)


def _facts(shape: Shape) -> str:
    facts = []
    if shape.low is not None and shape.high is not None:
        facts.append(f"{shape.low:g} to {shape.high:g}" if shape.low < shape.high else f"{shape.low:g}")
    if shape.shortest is not None:
        noun = "character" if shape.kinds["string"] else "key" if shape.kinds["object"] else "item"
        counts = f"{shape.shortest:,} to {shape.longest:,}" if shape.shortest < shape.longest else f"{shape.longest:,}"
        facts.append(f"{counts} {noun}{'' if counts == '1' else 's'}")
    if shape.examples:
        facts.append("such as " + ", ".join(clean(example, _EXAMPLE_CHARS) for example in shape.examples))
    return "".join(f", {fact}" for fact in facts)
