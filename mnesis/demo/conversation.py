"""Seven weeks of work on one project, as one conversation: about 240 turns, the same each time.

A person and an agent replace a spreadsheet for customs declarations by a service. Decisions are taken and revoked,
tools succeed and fail, one large file is pasted, and a fact of the third turn is asked for in the last one but one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from mnesis.demo.script import DemoTurn, data_text, scenes
from mnesis.demo.tariff import tariff_file
from mnesis.demo.work import work_items
from mnesis.models.message import MessagePart, ToolPart

__all__ = [
    "EARLY_FACT",
    "EARLY_FACT_TURN",
    "EARLY_FACT_WORD",
    "FINAL_QUESTION",
    "SYSTEM_PROMPT",
    "DemoTurn",
    "demo_turns",
]

SYSTEM_PROMPT = (
    "You are the engineering agent of Tidewell Freight, a ferry company between Bergen and Rotterdam. You work with"
    " Ingrid Solheim on manifestd, the service that prepares customs declarations. You read before you answer, you say"
    " what you do not know, and you write decisions down with their reason."
)
EARLY_FACT = "the release is code-named AMBER HERON, and the customs form for returned goods is number KX-4471-88"
"""Said by the person in turn 3, and by nobody after that until the answer in the last turn but one."""
EARLY_FACT_WORD = "KX-4471-88"
EARLY_FACT_TURN = 3
FINAL_QUESTION = "What is the release code-named, and which number has the customs form for returned goods?"
"""The end of what the person asks in the last turn but one."""

_WEEKS = 6
_FIRST_DAY_OF_ITEMS = 5


def demo_turns() -> list[DemoTurn]:
    """The whole conversation in order. Every call gives the same turns; the list is the caller's own."""
    return list(_turns())


@cache
def _turns() -> tuple[DemoTurn, ...]:
    return tuple(_numbered(_put_together()))


def _put_together() -> Iterator[DemoTurn]:
    written = [scene for week in range(1, _WEEKS + 1) for scene in scenes(data_text(f"scenes/week{week}.md"))]
    items = work_items()
    places = [n for n, scene in enumerate(written[:-1]) if scene[0].day >= _FIRST_DAY_OF_ITEMS]
    for place, scene in enumerate(written):
        yield from map(_with_paste, scene)
        if place in places:
            rank = places.index(place)
            share = slice(rank * len(items) // len(places), (rank + 1) * len(items) // len(places))
            yield from (replace(item, day=scene[0].day, title="daily work") for item in items[share])


def _with_paste(turn: DemoTurn) -> DemoTurn:
    if not turn.user.startswith("@paste tariff\n"):
        return turn
    return replace(turn, user=f"{turn.user.removeprefix('@paste tariff')}\n\n{tariff_file()}".lstrip("\n"))


def _numbered(turns: Iterator[DemoTurn]) -> Iterator[DemoTurn]:
    calls = 0
    for turn in turns:
        parts: list[MessagePart] = []
        for part in turn.assistant:
            if isinstance(part, ToolPart):
                calls += 1
                part = part.model_copy(update={"tool_call_id": f"call_{calls:04d}"})
            parts.append(part)
        yield replace(turn, assistant=parts)
