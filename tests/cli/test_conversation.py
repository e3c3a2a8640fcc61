"""The demo's script: the same everywhere, long, varied, and true to what it says of itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import date

from mnesis.demo.conversation import (
    EARLY_FACT,
    EARLY_FACT_TURN,
    EARLY_FACT_WORD,
    FINAL_QUESTION,
    DemoTurn,
    demo_turns,
)
from mnesis.demo.replay import digest
from mnesis.demo.script import parse_scenes
from mnesis.demo.tariff import check_digit, tariff_file, tariff_rows
from mnesis.models.message import TextPart, ToolPart

DIGEST_CODE = (
    "from mnesis.demo.conversation import demo_turns; from mnesis.demo.replay import digest;"
    "print(digest([(t.user, t.assistant) for t in demo_turns()]))"
)


def spoken(turn: DemoTurn) -> str:
    return "".join(part.text for part in turn.assistant if isinstance(part, TextPart))


def calls(turn: DemoTurn) -> list[ToolPart]:
    return [part for part in turn.assistant if isinstance(part, ToolPart)]


def test_the_conversation_does_not_depend_on_the_hash_seed() -> None:
    told = subprocess.run(
        [sys.executable, "-c", DIGEST_CODE], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    )
    assert told.stdout.strip() == digest([(turn.user, turn.assistant) for turn in demo_turns()])


def test_a_caller_may_change_its_list() -> None:
    demo_turns().clear()
    assert demo_turns()


def test_it_is_a_few_hundred_turns_of_realistic_length() -> None:
    turns = demo_turns()
    characters = sum(len(t.user) + sum(len(p.model_dump_json()) for p in t.assistant) for t in turns)
    assert 220 <= len(turns) <= 260
    assert 250_000 <= characters <= 400_000


def test_hardly_anything_is_said_twice() -> None:
    turns = demo_turns()
    assert len({turn.user for turn in turns}) > 0.95 * len(turns)
    assert len({spoken(turn) for turn in turns}) == len(turns)
    assert all(turn.user.strip() and turn.assistant for turn in turns)


def test_days_go_forward() -> None:
    days = [turn.day for turn in demo_turns()]
    assert days == sorted(days)
    assert days[0] == 1
    assert days[-1] == 30


def test_tools_succeed_and_fail_and_every_call_has_its_own_id() -> None:
    made = [part for turn in demo_turns() for part in calls(turn)]
    assert len({part.tool_call_id for part in made}) == len(made) > 200
    assert all(part.has_result and part.result().output for part in made)
    assert sum(part.result().is_error for part in made) >= 15
    assert len(Counter(part.tool_name for part in made)) >= 10


def test_the_early_fact_is_said_once_and_asked_for_at_the_end() -> None:
    turns = demo_turns()
    naming = [number for number, turn in enumerate(turns, start=1) if EARLY_FACT_WORD in repr(turn)]
    assert naming == [EARLY_FACT_TURN, len(turns) - 1]
    assert EARLY_FACT in turns[EARLY_FACT_TURN - 1].user
    assert turns[-2].user.endswith(FINAL_QUESTION)
    assert EARLY_FACT_WORD not in turns[-2].user


def test_decisions_are_taken_and_revoked() -> None:
    told = "\n".join(turn.user + spoken(turn) for turn in demo_turns())
    assert told.index("we go with Postgres 14") < told.index("We stay on SQLite")


def test_the_pasted_file_is_what_the_agent_says_of_it() -> None:
    pasted = [turn for turn in demo_turns() if tariff_file() in turn.user]
    assert len(pasted) == 1
    assert len(pasted[0].user) > 20_000
    rows = tariff_rows()
    wrong = [row for row in rows if check_digit(row.code[:9]) != row.code[9]]
    assert "420 codes in ten chapters, rates from 0 to 25.5 %" in spoken(pasted[0])
    assert len({row.code for row in rows}) == 420
    assert len({row.code[:2] for row in rows}) == 10
    assert (min(row.rate_ppm for row in rows), max(row.rate_ppm for row in rows)) == (0, 255_000)
    assert sum(bool(row.valid_to) and date.fromisoformat(row.valid_to) < date(2026, 2, 1) for row in rows) == 9
    assert [row.note for row in wrong] == ["see supplementary unit"]


def test_the_text_of_scenes_is_read_as_it_is_written() -> None:
    (scene,) = parse_scenes(
        '# day 4: a title\n@user\nHello\n\nthere.\n@agent\n@call ls {"path": "/"}\na\nb\n@fail rm {}\nno\n'
    )
    (turn,) = scene
    assert (turn.day, turn.title, turn.user) == (4, "a title", "Hello\n\nthere.")
    listed, removed = calls(turn)
    assert (listed.tool_name, listed.input, listed.output, listed.status.state) == (
        "ls",
        {"path": "/"},
        "a\nb",
        "completed",
    )
    assert (removed.error_message, removed.output, removed.status.state) == ("no", None, "error")


def test_no_marker_of_the_scenes_is_left_in_the_conversation() -> None:
    for turn in demo_turns():
        assert not re.search(r"^(@(user|agent|call|fail|paste)\b|# day)", turn.user + "\n" + spoken(turn), re.MULTILINE)
        assert "{" not in spoken(turn) or "manifestd" in spoken(turn) or "`" in spoken(turn)
