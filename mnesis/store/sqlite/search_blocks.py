"""Checksums of the blocks in which the full-text index is stored.

The index holds no text, so damage to it cannot be found by comparing it with the log, except by analysing every message again.
Instead, each transaction that changes the index writes the checksums of the blocks that it changed. A check reads every block
once.

Which blocks a transaction changed follows from how FTS5 stores an index
(https://sqlite.org/fts5.html#fts5_data_structures and the comment "RECORDS" in ext/fts5/fts5_index.c): two separate
records, and segments whose pages are only appended, until the first pages are removed and the new first page is written
again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from functools import cache
from zlib import crc32

from mnesis.store.sqlite.migrate import migrations
from mnesis.store.sqlite.queries import sql

FULL_TEXT_TABLES = ("search_words", "search_trigrams")
PAGE_BITS = 31
"""The id of a block is a run of pages << 31 | the number of its page."""
SEGMENT_RUNS = 1 << 6
"""Runs of one segment: its leaves, and the pages that index a long list of messages."""
RECORDS_RUN = 0
"""The run of the two records that every change writes again: averages and structure."""
STRUCTURE_ID = 10
"""The block that lists the segments of each level (`FTS5_STRUCTURE_ROWID`)."""
STRUCTURE_COOKIE_BYTES = 4
STRUCTURE_V2 = b"\xff\x00\x00\x01"
"""The bytes after the cookie in the newer form of that block (`FTS5_STRUCTURE_V2`)."""
SETTINGS_ID = -1
"""The id under which the checksum of the settings of a full-text table is kept."""


def save_checksums(connection: sqlite3.Connection) -> None:
    """Write the checksums of all blocks that the transaction changed. Call it after the last change of the index."""
    # FTS5 writes its blocks when a savepoint begins, and otherwise only at the commit (xSavepoint in fts5_main.c).
    connection.execute("SAVEPOINT search_blocks")
    connection.execute("RELEASE search_blocks")
    for table in FULL_TEXT_TABLES:
        _save_table(connection, table)


def mismatched_blocks(connection: sqlite3.Connection) -> list[str]:
    """Return the names of full-text tables with damaged blocks."""
    return [
        table
        for table in FULL_TEXT_TABLES
        if (_read_checksums(connection, table) or _checksums_when_new(table)) != _compute(connection, table)
    ]


def level_count(connection: sqlite3.Connection) -> int:
    """Return the number of levels of the full-text table that has most, also empty ones. Damage counts as no level."""
    blocks = (connection.execute(_statement("search_block", table), {"id": STRUCTURE_ID}) for table in FULL_TEXT_TABLES)
    return max(_levels_in(block) for rows in blocks for block, *_ in [rows.fetchone() or (b"",)])


def _levels_in(structure: bytes) -> int:
    """Return the first number of a structure record: a varint, https://sqlite.org/fileformat2.html#varint."""
    numbers = structure[STRUCTURE_COOKIE_BYTES:].removeprefix(STRUCTURE_V2)
    levels = 0
    for byte in numbers[:3]:  # more than three bytes would mean millions of levels
        levels = levels << 7 | byte & 0x7F
        if byte < 0x80:
            return levels
    return 0


def _save_table(connection: sqlite3.Connection, table: str) -> None:
    present = dict(_first_ids(connection, _statement("search_first_block", table)))
    tracked = dict(_first_ids(connection, _statement("search_first_checksum", table)))
    for run in tracked.keys() - present.keys():
        _delete_run(connection, table, run)
    for run, first_id in present.items():
        _save_run(connection, table, run, first_id, tracked.get(run))
    _save_settings(connection, table)


def _save_run(
    connection: sqlite3.Connection, table: str, run: int, first_id: int, tracked_first_id: int | None
) -> None:
    """Write the checksums of a run: of the appended pages, or of all pages if the first one changed."""
    after_id = _last_tracked_id(connection, table, run)
    first_block = connection.execute(_statement("search_block", table), {"id": first_id}).fetchone()[0]
    is_same = first_id == tracked_first_id and _checksum_of(connection, table, first_id) == _crc_of_block(first_block)
    if not is_same or run == RECORDS_RUN or run % SEGMENT_RUNS:
        _delete_run(connection, table, run)
        after_id = first_id - 1
    last_id = (run + 1 << PAGE_BITS) - 1
    rows = connection.execute(_statement("search_blocks_between", table), {"after_id": after_id, "last_id": last_id})
    new = [(table, block_id, _crc_of_block(block)) for block_id, block in rows]
    connection.executemany(sql("insert_search_checksum"), new)
    if new and run != RECORDS_RUN:
        segment = run // SEGMENT_RUNS
        crc = _crc_of_rows(connection.execute(_statement("search_segment_index", table), {"segment": segment}))
        connection.execute(sql("insert_search_checksum"), (_index_of(table), segment, crc))


def _save_settings(connection: sqlite3.Connection, table: str) -> None:
    crc = _crc_of_rows(connection.execute(_statement("search_settings", table)))
    connection.execute(sql("insert_search_checksum"), (_index_of(table), SETTINGS_ID, crc))


def _delete_run(connection: sqlite3.Connection, table: str, run: int) -> None:
    span = {"first_id": run << PAGE_BITS, "last_id": (run + 1 << PAGE_BITS) - 1}
    connection.execute(_statement("delete_search_checksums", table), span)
    if run and not run % SEGMENT_RUNS:
        segment = run // SEGMENT_RUNS
        connection.execute(
            _statement("delete_search_checksums", _index_of(table)), {"first_id": segment, "last_id": segment}
        )


def _first_ids(connection: sqlite3.Connection, statement: str) -> Iterator[tuple[int, int]]:
    """Yield each run of blocks with its first id, by skipping from run to run."""
    start = 0
    while (row := connection.execute(statement, {"start": start}).fetchone()) is not None:
        run = row[0] >> PAGE_BITS
        yield run, row[0]
        start = run + 1 << PAGE_BITS


def _last_tracked_id(connection: sqlite3.Connection, table: str, run: int) -> int:
    span = {"first_id": run << PAGE_BITS, "last_id": (run + 1 << PAGE_BITS) - 1}
    row = connection.execute(_statement("search_last_checksum", table), span).fetchone()
    return span["first_id"] - 1 if row[0] is None else int(row[0])


def _checksum_of(connection: sqlite3.Connection, table: str, block_id: int) -> int | None:
    row = connection.execute(_statement("search_checksum", table), {"id": block_id}).fetchone()
    return None if row is None else row[0]


def _read_checksums(connection: sqlite3.Connection, table: str) -> dict[tuple[str, int], object]:
    names = {"name": table, "index_name": _index_of(table)}
    return {(name, block_id): crc for name, block_id, crc in connection.execute(sql("search_checksums"), names)}


def _compute(connection: sqlite3.Connection, table: str) -> dict[tuple[str, int], object]:
    """Compute the checksums of a full-text table."""
    checksums: dict[tuple[str, int], object] = {
        (table, block_id): _crc_of_block(block)
        for block_id, block in connection.execute(_statement("search_all_blocks", table))
    }
    segments: dict[int, int] = {}
    for segment, *row in connection.execute(_statement("search_whole_index", table)):
        segments[segment] = _extend_crc(segments.get(segment, 0), row)
    runs = {block_id >> PAGE_BITS for _, block_id in checksums}
    segments |= {run // SEGMENT_RUNS: segments.get(run // SEGMENT_RUNS, 0) for run in runs if run != RECORDS_RUN}
    settings = _crc_of_rows(connection.execute(_statement("search_settings", table)))
    index = _index_of(table)
    return {**checksums, **{(index, segment): crc for segment, crc in segments.items()}, (index, SETTINGS_ID): settings}


@cache
def _checksums_when_new(table: str) -> dict[tuple[str, int], object]:
    """Return the checksums of a full-text table in which nothing was stored yet."""
    fresh = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            fresh.executescript(migration.sql)
        return _compute(fresh, table)
    finally:
        fresh.close()


def _crc_of_block(block: object) -> int:
    return crc32(block) if isinstance(block, bytes) else _extend_crc(1, (block,))


def _crc_of_rows(rows: Iterable[tuple[object, ...]]) -> int:
    crc = 0
    for row in rows:
        crc = _extend_crc(crc, row)
    return crc


def _extend_crc(crc: int, row: Iterable[object]) -> int:
    return crc32(repr(tuple(row)).encode("utf-8", "surrogatepass"), crc)


def _index_of(table: str) -> str:
    return f"{table}_idx"


@cache
def _statement(name: str, table: str) -> str:
    """Return a statement for a full-text table. It is written for the table of words."""
    return sql(name).replace("search_words", table)
