"""The daily work between the scenes: tickets, night logs, queries, tariff questions, mails.

The content of each item is written by hand (`data/work/*.txt`, columns separated by ` ~ `). The outputs of its tools are
generated from its own seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeVar

from mnesis.demo.outputs import (
    failed_test_output,
    night_log,
    passed_test_output,
    result_table,
    source_excerpt,
    tariff_hits,
)
from mnesis.demo.script import DemoTurn, data_text, text_part, tool_call
from mnesis.models.message import MessagePart

_T = TypeVar("_T")


def work_items() -> list[DemoTurn]:
    """Return all items, with the kinds mixed evenly."""
    kinds = [list(kind()) for kind in (_tickets, _nights, _queries, _goods, _mails)]
    length = max(map(len, kinds))
    items_by_position = [{int((n + 0.5) * length / len(kind)): item for n, item in enumerate(kind)} for kind in kinds]
    return [items[position] for position in range(length) for items in items_by_position if position in items]


def _rows(name: str) -> Iterator[tuple[int, random.Random, list[str]]]:
    for number, line in enumerate(data_text(f"work/{name}.txt").splitlines()):
        yield number, random.Random(f"{name} {number}"), line.split(" ~ ")  # noqa: S311  # repeatable, nothing secret


_TICKET_QUESTIONS = (
    "Ticket TW-{id}: {symptom} Can you take it?",
    "{symptom} That's TW-{id}. Marek marked it urgent, I would not, but please have a look.",
    "Next one, TW-{id}. {symptom}",
    "Oskar reports: {symptom} I made it TW-{id}.",
    "Before lunch, if you can, TW-{id}: {symptom} Is that us or them?",
    "{symptom} Lene noticed it on Friday. TW-{id}.",
    "TW-{id} has been open for a week and I feel bad about it. {symptom}",
)
_TICKET_OPENINGS = (
    "Let me look at {file}.",
    "I think I know the place; {file} it is, but I'll read before I say more.",
    "Reproduced with one of the fixtures. Reading {file} now.",
    "That's us. Looking at {file}.",
    "I'll start where it shows and go inwards: {file}.",
)
_TICKET_CLOSINGS = (
    "The reason: {cause}. TW-{id} is fixed, and `{test}` fails without the change; I tried it both ways.",
    "Found: {cause}. One line changed, one test added (`{test}`). TW-{id} can be closed.",
    "It was simple in the end: {cause}. The test that would have told us is `{test}`; now it exists.",
    "Fixed. In one sentence for the ticket: {cause}. Pinned by `{test}`.",
    "Us, not them: {cause}. TW-{id} is done, see `{test}`. I looked for the same pattern elsewhere and found none.",
    "{cause}. I would rather have found it myself. `{test}` makes sure that nobody finds it a second time.",
)


def _tickets() -> Iterator[DemoTurn]:
    for number, rng, (file, symptom, old, new, cause, test) in _rows("tickets"):
        words = {"id": 310 + 7 * number, "symptom": symptom, "file": file, "cause": cause, "test": test}
        tests = f"tests/test_{file.removeprefix('manifestd/')}"
        line = rng.randrange(20, 240)
        parts: list[MessagePart] = [
            text_part(_pick(_TICKET_OPENINGS, number).format(**words)),
            tool_call("read_file", {"path": file, "around": line}, source_excerpt(rng, file, line, old)),
        ]
        if number % 3 == 0:
            parts.append(
                tool_call(
                    "run_tests", {"path": tests, "select": test}, failed_test_output(tests, test, old), failed=True
                )
            )
        diff = f"@@ {file}:{line} @@\n-    {old}\n+    {new}"
        parts.append(tool_call("edit_file", {"path": file, "line": line, "text": new}, diff))
        parts.append(tool_call("run_tests", {"path": "tests/"}, passed_test_output(rng, tests, 180 + 5 * number)))
        closing = _pick(_TICKET_CLOSINGS, number).format(**words)
        yield DemoTurn(
            _pick(_TICKET_QUESTIONS, number).format(**words), [*parts, text_part(closing[0].upper() + closing[1:])]
        )


_NIGHT_QUESTIONS = (
    "How was the night?",
    "Anything in last night's log that I should know, especially from {unit}?",
    "Oskar left a note saying only “{unit}?”. What did he see?",
    "Please read the night for me while I find my coffee.",
    "Marek's dashboard blinked at {unit} around four. Real or not?",
    "Morning. One line from {unit} caught my eye in the log, what is it about?",
)


def _nights() -> Iterator[DemoTurn]:
    for number, rng, (unit, oddity, verdict) in _rows("nights"):
        day = f"2026{2 + number // 15:02d}{1 + (number * 2) % 27:02d}"
        log = night_log(rng, day, oddity.format(file=f"{day}_0240.man"))
        arguments = {"host": "tw-app-1", "unit": "manifestd", "from": "00:00", "to": "06:00", "day": day}
        yield DemoTurn(
            _pick(_NIGHT_QUESTIONS, number).format(unit=unit),
            [tool_call("read_log", arguments, log), text_part(f"One thing stands out, from {unit}. {verdict}")],
        )


_QUERY_OPENINGS = (
    "I'll ask the ledger.",
    "One query.",
    "",
    "Let me see.",
    "From the read-only copy, so that nobody waits:",
)


def _queries() -> Iterator[DemoTurn]:
    for number, rng, (question, client, remark, condition) in _rows("queries"):
        sql, table = result_table(rng, client, condition, rows=6 + number % 9)
        opening = _pick(_QUERY_OPENINGS, number)
        parts: list[MessagePart] = [text_part(opening)] if opening else []
        yield DemoTurn(question, [*parts, tool_call("query", {"sql": sql}, table), text_part(remark)])


_GOODS_QUESTIONS = (
    "New goods from {client}: {goods}. Tomás asks what you would propose before he answers.",
    "{client} ship this for the first time: “{goods}”. Which code?",
    "What would the lookup say to {goods} ({client})?",
    "Tomás and I disagree about {goods} from {client}. You first, without knowing our opinions.",
    "One more for the list of questions: {goods}, {client}.",
)
_GOODS_ANSWERS = (
    "I would propose {code} at {rate}: {reason}. Stored as a precedent only once Tomás says yes.",
    "{code}, rate {rate}. The deciding point: {reason}. The runner-up differs in exactly that.",
    "My answer is {code} ({rate}), because of this: {reason}. If the invoice says otherwise, the invoice wins.",
    "Between two candidates I choose {code}, {rate}. Why: {reason}.",
)


def _goods() -> Iterator[DemoTurn]:
    for number, rng, (goods, client, code, rate, reason) in _rows("goods"):
        rate = rate if rate.endswith("kg") else f"{rate} %"
        hits = tariff_hits(rng, goods, code, rate)
        yield DemoTurn(
            _pick(_GOODS_QUESTIONS, number).format(goods=goods, client=client),
            [
                tool_call("tariff_search", {"words": goods.lower(), "client": client, "limit": 6}, hits),
                text_part(_pick(_GOODS_ANSWERS, number).format(code=code, rate=rate, reason=reason)),
            ],
        )


_MAIL_REQUESTS = (
    "Please draft a mail to {to}: {matter}.",
    "I owe {to} a mail, {matter}. Write it, I'll sign it.",
    "Could you write to {to}, {matter}? Friendly, short.",
)
_MAIL_FRAMES = (
    ("Dear {name},\n\nthis one is short.", "With kind regards,\nIngrid Solheim\nTidewell Freight"),
    ("Hello {name},\n\na note from our side of the quay.", "Best wishes from Bergen,\nIngrid"),
    ("Dear {name},\n\nthank you for your patience these weeks.", "Yours,\nIngrid Solheim"),
)
_MAIL_REMARKS = (
    "I kept it to what they have to do and why it helps them. The last sentence is the one they will remember.",
    "Two things I left out on purpose: the history, and whose fault it was.",
    "Send it before ten, they read their mail in the morning.",
    "I would put Tomás in copy, as it is his rule that we are quoting.",
)


def _mails() -> Iterator[DemoTurn]:
    for number, _, (to, matter, name, body, ending) in _rows("mails"):
        words = {"to": to, "matter": matter, "name": name}
        opening, close = _pick(_MAIL_FRAMES, number)
        letter = f"{opening.format(**words)}\n\n{body}\n\n{ending}\n\n{close}"
        yield DemoTurn(
            _pick(_MAIL_REQUESTS, number).format(**words),
            [text_part(f"Here is the draft:\n\n{letter}\n\n{_pick(_MAIL_REMARKS, number)}")],
        )


def _pick(choices: tuple[_T, ...], number: int) -> _T:
    return choices[number % len(choices)]
