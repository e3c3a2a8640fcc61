"""The demo conversation: seven weeks of work on one project in about 240 turns, always the same.

A person and an agent replace a spreadsheet for customs declarations with a service. Decisions are made and revoked, tools
succeed and fail, one large file is pasted, and the last turn but one asks for a fact from the third turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from mnesis.demo.script import DemoTurn, data_text, parse_scenes
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
"""A fact that the person states in turn 3. No later message mentions it until the answer in the last turn but one."""
EARLY_FACT_WORD = "KX-4471-88"
EARLY_FACT_TURN = 3
FINAL_QUESTION = "What is the release code-named, and which number has the customs form for returned goods?"
"""The end of the person's message in the last turn but one."""

_WEEK_COUNT = 6
_FIRST_DAY_OF_ITEMS = 5


def demo_turns() -> list[DemoTurn]:
    """Return the whole conversation in order. Every call returns equal turns in a new list."""
    return list(_turns())


@cache
def _turns() -> tuple[DemoTurn, ...]:
    return tuple(_number_calls(_assemble()))


def _assemble() -> Iterator[DemoTurn]:
    all_scenes = [
        scene for week in range(1, _WEEK_COUNT + 1) for scene in parse_scenes(data_text(f"scenes/week{week}.md"))
    ]
    items = work_items()
    item_positions = [n for n, scene in enumerate(all_scenes[:-1]) if scene[0].day >= _FIRST_DAY_OF_ITEMS]
    for position, scene in enumerate(all_scenes):
        yield from map(_expand_paste, scene)
        if position in item_positions:
            rank = item_positions.index(position)
            share = slice(rank * len(items) // len(item_positions), (rank + 1) * len(items) // len(item_positions))
            yield from (replace(item, day=scene[0].day, title="daily work") for item in items[share])


def _expand_paste(turn: DemoTurn) -> DemoTurn:
    if not turn.user.startswith("@paste tariff\n"):
        return turn
    return replace(turn, user=f"{turn.user.removeprefix('@paste tariff')}\n\n{tariff_file()}".lstrip("\n"))


def _number_calls(turns: Iterator[DemoTurn]) -> Iterator[DemoTurn]:
    call_count = 0
    for turn in turns:
        parts: list[MessagePart] = []
        for part in turn.assistant:
            if isinstance(part, ToolPart):
                call_count += 1
                part = part.model_copy(update={"tool_call_id": f"call_{call_count:04d}"})
            parts.append(part)
        yield replace(turn, assistant=parts)
