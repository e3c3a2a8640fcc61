"""The large file of the conversation: a tariff extract of 420 rows, made from a fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

ROWS = 420
DAMAGED_ROW = 211
EXPIRED_ROWS = frozenset({17, 58, 96, 143, 189, 240, 307, 352, 401})

_GOODS = {
    "03": [
        "cod",
        "haddock",
        "saithe",
        "halibut",
        "redfish",
        "herring",
        "mackerel",
        "salmon",
        "trout",
        "shrimp",
        "crab",
        "mussel",
    ],
    "15": ["cod-liver-oil", "fish-oil", "whale-oil", "rapeseed-oil", "margarine", "lard", "tallow", "stearin"],
    "16": ["fish-cakes", "caviar", "sardines", "crab-meat", "fish-balls", "anchovies", "gravlax", "fish-soup"],
    "23": ["fish-meal", "oil-cake", "bran", "pet-food", "feed-premix", "distillery-dregs"],
    "39": ["floats", "boxes", "film", "sacks", "lids", "pipes", "plates", "foam", "netting", "granulate"],
    "44": ["spruce", "pine", "birch", "pellets", "boards", "veneer", "frames", "doors", "pallets", "shingles"],
    "48": ["newsprint", "cartons", "labels", "sacks", "tissue", "board", "envelopes", "wallpaper"],
    "73": ["chain", "screws", "nails", "wire", "anchors", "tanks", "grills", "pipes", "cable", "springs"],
    "84": ["pumps", "winches", "compressors", "freezers", "scales", "fillet-machines", "cranes", "valves", "looms"],
    "94": ["chairs", "mattresses", "lamps", "cabins", "tables", "cabinets", "sleeping-bags"],
}
_STATES = ["fresh", "frozen", "dried", "salted", "smoked", "raw", "sawn", "planed", "coated", "woven", "welded", "used"]
_FORMS = [
    "whole",
    "in pieces",
    "in bulk",
    "for retail",
    "in drums",
    "on pallets",
    "not elsewhere named",
    "of industrial use",
]
_NOTES = ["", "", "", "", "licence above 500 kg", "origin on invoice", "quota closes in June", "weigh without glazing"]


@dataclass(frozen=True, slots=True)
class TariffRow:
    """A code of ten digits, the last of them a check digit, and what the extract says of it."""

    code: str
    description: str
    unit: str
    rate_ppm: int
    valid_to: str
    note: str

    def line(self) -> str:
        return "|".join((self.code, self.description, self.unit, str(self.rate_ppm), self.valid_to, self.note))


def check_digit(digits: str) -> str:
    """The weighted sum of the first nine digits, modulo ten; weights 3 and 1 in turn."""
    return str(sum(int(digit) * (3, 1)[place % 2] for place, digit in enumerate(digits)) % 10)


def tariff_rows() -> list[TariffRow]:
    """The rows in order of chapter; one has a wrong check digit, nine have expired."""
    chance = random.Random("tariff extract")  # noqa: S311  # a repeatable text, nothing secret
    chapters = [chapter for chapter in _GOODS for _ in range(ROWS // len(_GOODS))]
    return [_row(number, chapter, chance) for number, chapter in enumerate(chapters, start=1)]


def tariff_file() -> str:
    """The extract as it is pasted: a header, the rows, a trailer."""
    header = "code|description|unit|rate_ppm|valid_to|note"
    return "\n".join([header, *(row.line() for row in tariff_rows()), f"END|{ROWS} rows"])


def _row(number: int, chapter: str, chance: random.Random) -> TariffRow:
    first = f"{chapter}{number:03d}{chance.randrange(10_000):04d}"
    digit = check_digit(first)
    if number == DAMAGED_ROW:
        digit = str((int(digit) + 4) % 10)
    what = chance.choice(_GOODS[chapter]).replace("-", " ")
    return TariffRow(
        code=first + digit,
        description=f"{what}, {chance.choice(_STATES)}, {chance.choice(_FORMS)}",
        unit=chance.choice(["kg", "kg", "pcs", "l", "m3"]),
        rate_ppm={1: 0, 300: 255_000}.get(
            number, chance.choice([0, 17_000, 27_000, 65_000, 120_000, 130_000, 200_000])
        ),
        valid_to="2025-12-31" if number in EXPIRED_ROWS else chance.choice(["", "", "2026-12-31", "2027-06-30"]),
        note="see supplementary unit" if number == DAMAGED_ROW else chance.choice(_NOTES),
    )
