"""Plausible outputs of the conversation's tools. The same seed gives the same output."""

from __future__ import annotations

from random import Random

CLIENTS = (
    "Fjordfisk AS",
    "Brightwater Foods",
    "Halden Timber",
    "Skagen Marine",
    "Voss Dairy",
    "Aurland Textiles",
    "Northpole Ice",
)
_CODE_LINES = (
    'log.debug("%s: %d lines", name, len(lines))',
    "if not lines:",
    "    return []",
    "for position, raw in enumerate(lines, start=1):",
    "    consignment = by_number[raw[2:16].strip()]",
    "result.append(Line(consignment, position, text))",
    "except KeyError as missing:",
    "    raise Unreadable(raw, reason=str(missing)) from missing",
    "total = sum(line.grams for line in lines)",
    "assert total > 0",
    "now = clock.utc_ms()",
    "with ledger.transaction() as tx:",
    "    tx.insert(row)",
    "    tx.note(person, now)",
    'name = header.get("client", "")',
    "return tuple(result)",
    "day = sailing.partition('/')[0]",
    "waited_ms = now - asked_at",
    "if waited_ms > LIMIT_MS:",
    '    metrics.count("late", client=name)',
    "known = {row.code: row for row in rows}",
    "yield Question(line, candidates[:3])",
    "seen.add(digest)",
    "document = canonical(root)",
)


def source_excerpt(rng: Random, file: str, line: int, fault: str) -> str:
    """Return a dozen lines of a source file that include the faulty one."""
    before, after = rng.randrange(5, 9), rng.randrange(4, 8)
    start = rng.randrange(len(_CODE_LINES))
    body = [_CODE_LINES[(start + place) % len(_CODE_LINES)] for place in range(before + after)]
    body.insert(before, fault)
    numbered = [f"{line - before + place:>5}      {text}" for place, text in enumerate(body)]
    return "\n".join([f"{file} (lines {line - before} to {line + after})", *numbered])


def failed_test_output(path: str, test: str, fault: str) -> str:
    """Return the output of a test run with one failure, before the fix."""
    return "\n".join(
        [
            "collected 1 item",
            f"{path} F",
            f"___ {test} ___",
            f">       {fault}",
            f"E       AssertionError: see {test}",
            "1 failed in 0.52s",
        ]
    )


def passed_test_output(rng: Random, path: str, total: int) -> str:
    """Return the output of a full test run, after the fix."""
    names = ["backup", "compare", "gateway", "ledger", "parser", "schema", "tariff", "view", "worker"]
    lines, done = [f"collected {total} items"], 0
    for place, name in enumerate(sorted({path, *(f"tests/test_{name}.py" for name in names)}), start=1):
        count = rng.randrange(6, 38)
        done = min(total, done + count)
        lines.append(f"{name:<27} {'.' * count:<38} [{100 * place // 10:>3}%]")
    return "\n".join([*lines, f"{total} passed in {rng.randrange(900, 6_000) / 100:.2f}s"])


def night_log(rng: Random, day: str, oddity: str) -> str:
    """Return a night of log lines in order of time, with the unusual one somewhere in the middle."""
    count = rng.randrange(20, 30)
    minutes = sorted(rng.sample(range(1, 355), count))
    lines = [_ordinary_line(rng, day) for _ in minutes]
    lines[rng.randrange(count // 3, 2 * count // 3)] = oddity
    return "\n".join(
        f"{minute // 60:02d}:{minute % 60:02d}:{rng.randrange(60):02d} {line}"
        for minute, line in zip(minutes, lines, strict=True)
    )


def _ordinary_line(rng: Random, day: str) -> str:
    number = rng.randrange(300, 2_000)
    file = f"{day}_{rng.choice(['0240', '0450', '0610'])}.man"
    return rng.choice(
        (
            "INFO  spool    heartbeat, 0 files",
            f"INFO  spool    {file} size stable, {rng.randrange(9_000, 72_000):,} bytes",
            f"INFO  parser   {file} {rng.randrange(40, 420)} lines, 0 unreadable",
            f"INFO  tariff   {rng.randrange(40, 400)} codes known, {rng.randrange(5)} asked",
            f"INFO  ledger   consignment TW-26-{number:06d} stored, {rng.randrange(1, 40)} lines",
            f"INFO  gateway  TW-26-{number:06d} accepted after {rng.randrange(4_000, 38_000):,} ms",
            f"INFO  sign     TW-26-{number:06d} signed by {rng.choice(['oskar', 'lene'])}",
            f"INFO  metrics  scrape ok, oldest unsigned {rng.randrange(580)} s",
            f"INFO  backup   copy of manifestd.db finished, {rng.randrange(31, 46)} s",
        )
    )


def result_table(rng: Random, client: str, condition: str, *, rows: int) -> tuple[str, str]:
    """Return a query about consignments and its result as a table. The client "*" means all clients."""
    where = f" WHERE {condition}" + ("" if client == "*" else f" AND client = '{client}'")
    columns = "number, client, terms, lines, grams/1000.0 AS kg, value_cents/100.0 AS value"
    sql = f"SELECT {columns} FROM consignment_view{where} ORDER BY value DESC LIMIT {rows}"  # noqa: S608  # shown, never run
    values = sorted((rng.randrange(90_000, 9_900_000) for _ in range(rows)), reverse=True)
    body = [
        f"TW-26-{rng.randrange(400, 2_000):06d}  {client if client != '*' else rng.choice(CLIENTS):<18}"
        f"{rng.choice(['CIF', 'FOB', 'DAP', 'EXW']):<7}{rng.randrange(1, 60):>5}"
        f"{rng.randrange(9_000, 26_000_000) / 1000:>12,.1f}{value / 100:>13,.2f}"
        for value in values
    ]
    head = f"{'number':<14}{'client':<18}{'terms':<7}{'lines':>5}{'kg':>12}{'value':>13}"
    return sql, "\n".join([head, "-" * len(head), *body, f"({rows} rows)"])


def tariff_hits(rng: Random, goods: str, code: str, rate: str) -> str:
    """Return the candidates for a description, which include the proposed code."""
    chapter = code[:4]
    others = [f"{chapter} {rng.randrange(11, 99)} {rng.randrange(0, 99):02d}" for _ in range(5)]
    shares = sorted((rng.randrange(120, 970) for _ in range(6)), reverse=True)
    words = [word.strip(",").lower() for word in goods.split() if word[0].isalpha()]
    lines = [
        f"0.{share:03d}  {found}  {rate if found == code else f'{rng.randrange(0, 200) / 10} %':<18}"
        f"words: {' '.join(rng.sample(words, k=min(len(words), 1 + place % 3)))}; seen {rng.randrange(60)} times"
        for place, (share, found) in enumerate(zip(shares, [code, *others], strict=True))
    ]
    return "\n".join(["match  code        rate              why", *lines])
