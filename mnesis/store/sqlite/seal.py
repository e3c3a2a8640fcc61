"""Hashes for rows that have none yet, and seals with a key: session by session, so that the work can stop at any
moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mnesis.redaction import get_logger
from mnesis.store.chain import EMPTY_HEAD, encode_turn, extend_chain, first_log_head, message_hash, seal
from mnesis.store.run_hashes import hash_input, hash_item, hash_run
from mnesis.store.sqlite.accounts import hash_accounts, key_of, session_from_row
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import compute_record_heads, insert_record_heads

logger = get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of sessions and runs that now have hashes, and the number that had none."""
PAGE_MESSAGES = 5_000
"""The number of messages that are read at a time, outside the transaction that writes the result."""


def add_missing_hashes(connection: sqlite3.Connection, report: Progress | None = None) -> None:
    """Compute the hashes of sessions and runs that an older release wrote.

    The hashes of each session and run are one short transaction. If the process ends, the next connection continues.
    """
    total = remaining = connection.execute(sql("count_unhashed")).fetchone()[0]
    if not total:
        return
    logger.info("computing the hashes of %d sessions and runs", total)
    while (row := connection.execute(sql("unhashed")).fetchone()) is not None:
        kind, pk = row
        (_add_session_hashes if kind == "session" else _add_run_hashes)(connection, pk)
        before, remaining = remaining, connection.execute(sql("count_unhashed")).fetchone()[0]
        if remaining >= before:  # a damaged row, which names neither a session nor a run
            logger.warning("the hashes of %d sessions and runs cannot be computed; run mnesis doctor", remaining)
            return
        if report is not None:
            report(total - remaining, total)


def _add_session_hashes(connection: sqlite3.Connection, session_pk: int) -> None:
    row = connection.execute(sql("check_session"), {"session_pk": session_pk}).fetchone()
    head, seq = first_log_head(row[1]) if row is not None else b"", 0
    while row is not None:  # outside the write transaction, which is safe because a log only grows
        head, last_seq = _extend_head(connection, session_pk, row[1], head, seq)
        if last_seq == seq:
            break
        seq = last_seq
    with _write(connection):
        connection.execute(sql("delete_unhashed"), {"kind": "session", "pk": session_pk})
        row = connection.execute(sql("check_session"), {"session_pk": session_pk}).fetchone()
        if row is None or row[31] is not None:
            return  # the session was purged, or another process was faster
        head, _ = _extend_head(connection, session_pk, row[1], head, seq)
        stored = session_from_row(row)
        turn_head = EMPTY_HEAD
        for turn in connection.execute(sql("check_turn_rows"), {"session_pk": session_pk}):
            turn_head = extend_chain(turn_head, encode_turn(turn))
        heads = compute_record_heads(connection, session_pk)
        insert_record_heads(connection, session_pk, heads)
        hashed = (*row[6:28], head, turn_head, heads.combine())
        accounts = (*hashed, hash_accounts(stored.profile_hash, hashed), None, session_pk)
        connection.execute(sql("update_accounts"), accounts)
        connection.execute(sql("set_session_hash"), {"session_pk": session_pk, "hash": stored.profile_hash})


def _extend_head(
    connection: sqlite3.Connection, session_pk: int, session_id: str, head: bytes, after_seq: int
) -> tuple[bytes, int]:
    """Extend a head by the next messages, whose stored hash is that of their content. Returns it and the last seq."""
    parameters = {"session_pk": session_pk, "after_seq": after_seq, "limit": PAGE_MESSAGES}
    for seq, created_at, token_count, tool_tokens, content in connection.execute(sql("unhashed_messages"), parameters):
        head = extend_chain(head, message_hash(session_id, seq, created_at, token_count, tool_tokens, content))
        after_seq = seq
    return head, after_seq


def _add_run_hashes(connection: sqlite3.Connection, run_pk: int) -> None:
    with _write(connection):
        connection.execute(sql("delete_unhashed"), {"kind": "run", "pk": run_pk})
        row = connection.execute(sql("run_by_pk"), {"run_pk": run_pk}).fetchone()
        if row is None or row[20] is not None:
            return
        head = EMPTY_HEAD
        for item in connection.execute(sql("check_run_rows"), {"run_pk": run_pk}).fetchall():
            place = {"run_pk": run_pk, "item_index": item[0]}
            input_hash = hash_input(row[1], item[0], item[1])
            head = extend_chain(head, input_hash)
            connection.execute(sql("save_input_hash"), place | {"hash": input_hash})
            item_hash = hash_item(row[1], (item[0], *item[2:8]))
            connection.execute(sql("save_item_hash"), place | {"hash": item_hash, "seal": None})
        row_hash = hash_run((*row[:19], head))
        parameters = {"run_pk": run_pk, "input_head": head, "hash": row_hash, "seal": None}
        connection.execute(sql("save_run_hash"), parameters)


def seal_all(connection: sqlite3.Connection) -> int:
    """Seal every session and run with the key of the connection, in one transaction. Returns their number."""
    key = key_of(connection) or b""
    rows = connection.execute(sql("seal_accounts")).fetchall()
    connection.executemany(sql("save_account_seal"), [(seal(key, row_hash), pk) for pk, row_hash in rows])
    runs = connection.execute(sql("seal_runs")).fetchall()
    connection.executemany(sql("save_run_seal"), [(seal(key, row_hash), pk) for pk, row_hash in runs])
    items = connection.execute(sql("seal_items"))
    connection.executemany(
        sql("save_item_seal"), ((seal(key, row_hash), run_pk, index) for run_pk, index, row_hash in items.fetchall())
    )
    return len(rows) + len(runs)


@contextmanager
def _write(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error says more
                connection.execute("ROLLBACK")
        raise
