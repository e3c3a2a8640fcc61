"""The large file of the conversation: a tariff extract of 420 rows, generated from a fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

ROW_COUNT = 420
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
    """One row of the extract. The last of the code's ten digits is a check digit."""

    code: str
    description: str
    unit: str
    rate_ppm: int
    valid_to: str
    note: str

    def line(self) -> str:
        return "|".join((self.code, self.description, self.unit, str(self.rate_ppm), self.valid_to, self.note))


def check_digit(digits: str) -> str:
    """Return the weighted sum of the first nine digits, modulo ten, with alternating weights 3 and 1."""
    return str(sum(int(digit) * (3, 1)[place % 2] for place, digit in enumerate(digits)) % 10)


def tariff_rows() -> list[TariffRow]:
    """Return the rows in order of chapter. One has a wrong check digit, nine have expired."""
    rng = random.Random("tariff extract")  # noqa: S311  # a repeatable text, nothing secret
    chapters = [chapter for chapter in _GOODS for _ in range(ROW_COUNT // len(_GOODS))]
    return [_row(number, chapter, rng) for number, chapter in enumerate(chapters, start=1)]


def tariff_file() -> str:
    """Return the extract as it is pasted: a header, the rows, a trailer."""
    header = "code|description|unit|rate_ppm|valid_to|note"
    return "\n".join([header, *(row.line() for row in tariff_rows()), f"END|{ROW_COUNT} rows"])


def _row(number: int, chapter: str, rng: random.Random) -> TariffRow:
    first_digits = f"{chapter}{number:03d}{rng.randrange(10_000):04d}"
    digit = check_digit(first_digits)
    if number == DAMAGED_ROW:
        digit = str((int(digit) + 4) % 10)
    goods = rng.choice(_GOODS[chapter]).replace("-", " ")
    return TariffRow(
        code=first_digits + digit,
        description=f"{goods}, {rng.choice(_STATES)}, {rng.choice(_FORMS)}",
        unit=rng.choice(["kg", "kg", "pcs", "l", "m3"]),
        rate_ppm={1: 0, 300: 255_000}.get(number, rng.choice([0, 17_000, 27_000, 65_000, 120_000, 130_000, 200_000])),
        valid_to="2025-12-31" if number in EXPIRED_ROWS else rng.choice(["", "", "2026-12-31", "2027-06-30"]),
        note="see supplementary unit" if number == DAMAGED_ROW else rng.choice(_NOTES),
    )
