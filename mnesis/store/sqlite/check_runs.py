"""The integrity check of map runs and of references to stored files."""

from __future__ import annotations

import sqlite3

from mnesis.models.finding import Finding
from mnesis.store.chain import extend_chain, is_seal
from mnesis.store.run_hashes import hash_input, hash_item, hash_run, plan_head
from mnesis.store.sqlite.accounts import key_of
from mnesis.store.sqlite.fixes import MIGRATE, SALVAGE, SALVAGE_RUN, SEAL
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.run_rows import Row, stored_run
from mnesis.store.sqlite.runs import count_mismatch


def run_findings(connection: sqlite3.Connection) -> list[Finding]:
    """Find runs, inputs and items that are not what was stored, and counts that differ from the items."""
    findings: list[Finding] = []
    for row in connection.execute(sql("check_runs")).fetchall():
        findings += _check_run(connection, row)
    return findings


def _check_run(connection: sqlite3.Connection, row: Row) -> list[Finding]:
    name, key = str(row[1]), key_of(connection)
    if row[20] is None:
        return [Finding("warning", "runs", f"run {name!r} has no hashes yet", MIGRATE, (name,))]
    details = [] if row[20] == hash_run(row) else ["it is not what was stored"]
    unsealed = int(not details and key is not None and not is_seal(key, row[20], row[21]))
    plan = connection.execute(sql("run_plan"), {"run_pk": row[0]}).fetchone()
    head = plan_head("" if plan is None else str(plan[0]))
    for item in connection.execute(sql("check_run_rows"), {"run_pk": row[0]}):
        index, text, *_, item_hash, item_seal, input_hash = item
        if text is None or input_hash != hash_input(name, index, text):
            details.append(f"input {index} is not what was stored")
        if item_hash != hash_item(name, (index, *item[2:8])):
            details.append(f"item {index} is not what was stored")
        unsealed += key is not None and not is_seal(key, item_hash or b"", item_seal)
        head = extend_chain(head, input_hash or b"")
    if not details and head != row[19]:
        details.append("its plan or its inputs are not those that were stored")
    counts = count_mismatch(connection, stored_run((*row[:20], None, None)))
    details += [counts] if counts is not None else []
    findings = [Finding("error", "runs", f"run {name!r}: {detail}", SALVAGE_RUN, (name,)) for detail in details]
    if unsealed:
        detail = f"run {name!r} is not sealed with this key, or was changed by someone without the key"
        findings.append(Finding("error", "seal", detail, SEAL, (name,)))
    return findings


def file_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """Find references to files that differ from those in the messages."""
    parameters = {"session_pk": session_pk}
    recorded = set(connection.execute(sql("check_file_refs"), parameters))
    in_messages = set(connection.execute(sql("check_file_parts"), parameters))
    in_messages = {
        (seq, content_id)
        for seq, content_id in in_messages
        if content_id and content_id.isascii() and content_id.isprintable()
    }
    return [
        Finding(
            "error",
            "files",
            f"message {seq} of session {name!r} and the list of references disagree about file {content_id!r}",
            SALVAGE,
            (name,),
        )
        for seq, content_id in sorted(recorded ^ in_messages)
    ]
