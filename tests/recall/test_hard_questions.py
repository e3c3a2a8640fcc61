"""Hard questions over the public API: changed facts, several parts, times and events in five languages, pins and focus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.models.message import Message, text_message

CONFIG = MnesisConfig(
    compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
    model_overrides=ModelOverrides(context_limit=60_000, max_output_tokens=256),
    recall=RecallConfig(enabled=True, max_tokens=600),
)
NOW = datetime(2026, 5, 20, 15, tzinfo=UTC)
"""A Wednesday."""
DAY_MS = 86_400_000
START_MS = round(datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp() * 1_000)
IDLE = (
    "The soup was rather salty again.", "Trains were late all morning.", "My neighbour painted her fence.",
    "We watched an old film.", "It rained on the way home.", "The bakery has new rolls.",
    "A parcel came for the second floor.", "Our cat slept on the radiator.", "The choir sang in the square.",
)  # fmt: skip


@asynccontextmanager
async def open_session(path: Path, messages: list[Message] | None = None) -> AsyncIterator[MnesisSession]:
    async with MnesisSession.open(
        model=None, session_id="s", db_path=path / "a.db", config=CONFIG, system_prompt=""
    ) as session:
        if messages:
            await session.append(messages)
        yield session


def idle_talk(count: int, first: int = 0) -> Iterator[str]:
    return (f"{IDLE[number % len(IDLE)]} That was the {number}th time." for number in range(first, first + count))


def said(texts: list[str], start_ms: int = START_MS) -> list[Message]:
    """Messages a minute apart, by turns of the user and the assistant."""
    return [
        text_message("assistant" if number % 2 else "user", text, created_at=start_ms + 60_000 * number)
        for number, text in enumerate(texts)
    ]


VALUES = [
    ("My office is on floor three.", "My office is on floor nine now.", "Which floor is my office on?", "nine"),
    ("The staging server runs at 10.0.4.17.", "Update: The staging server runs at 10.0.4.88.",
     "What is the address of the staging server?", "10.0.4.88"),
    ("We deploy on Tuesdays.", "Actually, we deploy on Thursdays from now on.", "On which day do we deploy?", "Thursdays"),
    ("My dentist is Doctor Kowalski.", "It changed: my dentist is Doctor Brandt.", "Who is my dentist?", "Brandt"),
    ("The budget for the kitchen is 4000 euros.", "Update: the budget for the kitchen is 5500 euros now.",
     "What is the budget for the kitchen?", "5500"),
    ("The wifi password is bluefish.", "The wifi password is redcrab now.", "What's the wifi password?", "redcrab"),
    ("Our linter is flake8.", "Our linter is ruff now.", "Which linter do we use?", "ruff"),
    ("The retry limit is 3.", "Actually, the retry limit is 8 from now on.", "What is the retry limit?", "8"),
    ("Das Passwort der Datenbank ist Kranich.", "Das Passwort der Datenbank ist jetzt Otter.",
     "Wie lautet das Passwort der Datenbank?", "Otter"),
    ("Le code du portail est 1204.", "Le code du portail est maintenant 7735.", "Quel est le code du portail ?", "7735"),
    ("La clave del almacén es tigre.", "Ahora la clave del almacén es lince.", "¿Cuál es la clave del almacén?", "lince"),
    ("仓库的密码是老虎。", "仓库的密码现在是山猫。", "仓库的密码是什么?", "山猫"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "question", "value"), VALUES, ids=[case[2] for case in VALUES])
async def test_the_newest_value_of_a_fact_comes_first(
    tmp_path: Path, old: str, new: str, question: str, value: str
) -> None:
    texts = [*idle_talk(20), old, *idle_talk(61, 20), new, *idle_talk(20, 81)]
    async with open_session(tmp_path, said(texts)) as session:
        assert value in (await session.search(question))[0].excerpt


PARTS = [
    ("What colour is the boat, and where is the spare key?", "boat", "turquoise", "The spare key hangs behind the clock."),
    ("Who repairs the boat and what does the plumber charge?", "boat", "turquoise", "The plumber charges 80 an hour."),
    ("Welche Farbe hat das Boot und wo liegt der Ersatzschlüssel?", "Boot", "Farbe",
     "Der Ersatzschlüssel liegt hinter der Uhr."),
    ("Quelle est la couleur du bateau et où est la clé de secours ?", "bateau", "couleur",
     "La clé de secours est derrière l'horloge."),
    ("¿De qué color es el barco y dónde está la llave de repuesto?", "barco", "color",
     "La llave de repuesto está detrás del reloj."),
    ("船是什么颜色?备用钥匙在哪里?", "船", "颜色", "备用钥匙在时钟后面。"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "topic", "word", "other"), PARTS, ids=[case[0] for case in PARTS])
async def test_each_part_of_a_question_gets_evidence(
    tmp_path: Path, question: str, topic: str, word: str, other: str
) -> None:
    # One stretch speaks of the first part only, at length; the second part has one remark, long before.
    stretch = [f"{topic}: {word} {number}, {topic} {word}. " + "It is being talked over. " * 12 for number in range(14)]
    texts = [*idle_talk(6), other, *idle_talk(31, 6), *stretch, *idle_talk(130, 37)]
    async with open_session(tmp_path, said(texts)) as session:
        await session.compact()
        recalled = (await session.window(message=question)).messages[-1].text_content()
        assert other in recalled
        assert f"{topic}: {word}" in recalled


TRIP = {
    -6: "We ate lentils. Wir aßen Linsen. On a mangé des lentilles. Comimos lentejas. 我们吃了扁豆。",
    0: "The trip to Lisbon begins today. Die Reise nach Lissabon beginnt. Le voyage à Lisbonne commence."
    " El viaje a Lisboa empieza. 去里斯本的旅行开始了。",
    6: "We ate noodles. Wir aßen Nudeln. On a mangé des nouilles. Comimos fideos. 我们吃了面条。",
}
EVENTS = [
    ("What did we eat before the trip to Lisbon?", "lentils"), ("What did we eat after the trip to Lisbon?", "noodles"),
    ("Was aßen wir vor der Reise nach Lissabon?", "lentils"), ("Was aßen wir nach der Reise nach Lissabon?", "noodles"),
    ("Qu'a-t-on mangé avant le voyage à Lisbonne ?", "lentils"),
    ("Qu'a-t-on mangé après le voyage à Lisbonne ?", "noodles"),
    ("¿Qué comimos antes del viaje a Lisboa?", "lentils"), ("¿Qué comimos después del viaje a Lisboa?", "noodles"),
    ("旅行之前我们吃了什么?", "lentils"), ("旅行之后我们吃了什么?", "noodles"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "food"), EVENTS, ids=[case[0] for case in EVENTS])
async def test_an_event_is_a_time(tmp_path: Path, question: str, food: str) -> None:
    messages = [
        message
        for day in range(-12, 12)
        for message in said([TRIP.get(day, f"Day {day}: nothing special."), "I see."], START_MS + (day + 20) * DAY_MS)
    ]
    async with open_session(tmp_path, messages) as session:
        assert food in (await session.search(question, now=NOW))[0].excerpt


EVENINGS = [
    "What was said about the ladder on Tuesday evening?", "Was war am Dienstagabend mit der Leiter (ladder)?",
    "Qu'a-t-on dit sur ladder mardi soir ?", "¿Qué se dijo sobre ladder el martes por la noche?", "星期二晚上 ladder 怎么了?",
]  # fmt: skip


@pytest.mark.parametrize("question", EVENINGS)
async def test_a_weekday_with_a_part_of_the_day_is_a_time(tmp_path: Path, question: str) -> None:
    evening_ms = round(datetime(2026, 5, 19, 20, tzinfo=UTC).timestamp() * 1_000)
    messages = [
        *said(["The ladder is in the shed.", "Fine."], evening_ms - 10 * 3_600_000),
        *said(["The ladder is at Hallvard's.", "Fine."], evening_ms),
        *said(["The ladder is back in the shed.", "Fine."], evening_ms + 12 * 3_600_000),
    ]
    async with open_session(tmp_path, messages) as session:
        assert "Hallvard" in (await session.search(question, now=NOW))[0].excerpt


async def test_a_pin_of_a_folded_message_outlives_the_process(tmp_path: Path) -> None:
    wording = "The safe opens with 31-07-22, turned left twice.\n\tNot right!"
    async with open_session(tmp_path, said([*idle_talk(10), wording, *idle_talk(41, 10)])) as session:
        await session.compact()
        assert wording not in str(await session.context_for_next_turn())
        await session.pin((await session.messages())[10].id)
    for first in (100, 200):
        async with open_session(tmp_path, said(list(idle_talk(30, first)))) as session:
            await session.compact()
            shown = [message.text_content() for message in (await session.window()).messages]
            assert sum(wording in text for text in shown) == 1
    async with open_session(tmp_path) as session:
        (pinned,) = await session.pins()
        await session.unpin(pinned.id)
        await session.append(said(list(idle_talk(30, 300))))
        await session.compact()
    async with open_session(tmp_path) as session:
        assert await session.pins() == []
        assert all(wording not in message.text_content() for message in (await session.window()).messages)


async def test_the_focus_of_a_compaction_steers_later_summaries_and_recall(tmp_path: Path) -> None:
    remarks = [
        f"Crate {number} went to the mill with a {'crimson' if number == 17 else 'plain'} seal." for number in range(60)
    ]
    async with open_session(tmp_path, said([*remarks, *idle_talk(20)])) as session:
        await session.compact(focus="crimson seals")
        assert any("crimson" in summary.text for summary in await session.summaries())
    async with open_session(tmp_path) as session:
        recalled = (await session.window(message="Which crate went to the mill?")).messages[-1].text_content()
        assert "Crate 17" in recalled
        await session.focus("")
        plain = (await session.window(message="Which crate went to the mill?")).messages[-1].text_content()
    assert recalled != plain
