"""The integrity check of settings, accounts, turns, other records and map runs against their hashes and seals."""

from __future__ import annotations

from mnesis.models.finding import Finding
from mnesis.store.chain import extend_chain, is_seal
from mnesis.store.codec import DamagedValueError
from mnesis.store.postgres.accounts import rows_of_session
from mnesis.store.postgres.fixes import RESTORE, RESTORE_RUN, SEAL, UNFINISHED_IMPORT
from mnesis.store.postgres.rows import from_text, to_text
from mnesis.store.postgres.run_rows import StoredRun, item_from_row, run_from_row
from mnesis.store.postgres.seal import ALL_RUNS, compute_turn_head, run_item_pages
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Transaction, session_parameters
from mnesis.store.record_heads import RecordHeads, compute_record_heads
from mnesis.store.run_hashes import hash_input, plan_head


def settings_findings(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    """Find damaged settings and accounts, and a seal that does not belong to the key of the transaction."""
    row = transaction.row("session", session_parameters(name))
    if row is None or row[0] != session_pk:
        return [_error("accounts", f"session {name!r} has no accounts", name)]
    try:
        stored = StoredSession(row)
    except DamagedValueError as error:
        return [_error("settings", f"{error} are not what was stored", name)]
    if not stored.is_intact():
        return [_error("accounts", f"the accounts of session {name!r} are not what was stored", name)]
    if stored.record.unfinished is not None:
        detail = f"session {name!r} is incomplete: its {stored.record.unfinished} was not finished, or is still running"
        return [Finding("warning", "unfinished", detail, UNFINISHED_IMPORT, (name,))]
    if transaction.key is None or is_seal(transaction.key, stored.hash, stored.seal):
        return []
    if stored.seal is None:
        return [Finding("error", "seal", f"session {name!r} is not sealed with a key", SEAL, (name,))]
    detail = f"session {name!r} is sealed with another key, or was changed by someone without the key"
    return [Finding("error", "seal", detail, SEAL, (name,))]


def record_findings(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    """Compare turns, summaries, sweeps, interruptions, hidden spans, prunes, covers and pins with their hashes."""
    expected = transaction.row("check_account_heads", {"session_pk": session_pk})
    if expected is None:  # a separate finding
        return []
    findings: list[Finding] = []
    if compute_turn_head(transaction, session_pk) != expected[0]:
        findings.append(_error("turns", f"the snapshots of turns of session {name!r} are not what was stored", name))
    row = transaction.row("record_heads", session_parameters(name))
    if row is None:
        return [*findings, _error("records", f"the hashes of the records of session {name!r} are missing", name)]
    stored = RecordHeads(*row)
    computed = compute_record_heads(rows_of_session(transaction, session_pk, name))
    kinds = [kind for kind in RecordHeads.__slots__ if getattr(stored, kind) != getattr(computed, kind)]
    findings += [
        _error("records", f"the {kind.replace('_', ' ')} of session {name!r} are not what was stored", name)
        for kind in kinds
    ]
    if not kinds and stored.combine() != expected[1]:
        findings.append(_error("records", f"the hashes of the records of session {name!r} were changed", name))
    return findings


def run_findings(transaction: Transaction) -> list[Finding]:
    """Find runs, plans, inputs and items that are not what was stored."""
    findings: list[Finding] = []
    for row in transaction.rows("runs", {"limit": ALL_RUNS}):
        name = from_text(row[1])
        try:
            findings += _check_run(transaction, run_from_row(row), name)
        except DamagedValueError:
            findings.append(_run_error(name, "it is not what was stored"))
    return findings


def _check_run(transaction: Transaction, stored: StoredRun, name: str) -> list[Finding]:
    key = transaction.key
    details = [] if stored.hash == stored.computed_hash() else ["it is not what was stored"]
    unsealed = int(not details and key is not None and not is_seal(key, stored.hash or b"", stored.seal))
    plan = transaction.value("run_plan", {"id": to_text(name)})
    head = plan_head("" if plan is None else plan.decode("utf-8", "replace"))
    seals: dict[int, bytes | None] = dict(transaction.rows("check_item_seals", {"run_pk": stored.pk}))
    for page in run_item_pages(transaction, to_text(name)):
        for index, text, *state, item_hash, input_hash in page:
            if input_hash != hash_input(name, index, text.decode("utf-8", "replace")):
                details.append(f"input {index} is not what was stored")
            item = item_from_row((index, *state))
            if item is None or item_hash != item.hash(name):
                details.append(f"item {index} is not what was stored")
            unsealed += key is not None and not is_seal(key, item_hash or b"", seals.get(index))
            head = extend_chain(head, input_hash or b"")
    if not details and head != stored.input_head:
        details.append("its plan or its inputs are not those that were stored")
    findings = [_run_error(name, detail) for detail in details]
    if unsealed:
        detail = f"run {name!r} is not sealed with this key, or was changed by someone without the key"
        findings.append(Finding("error", "seal", detail, SEAL, (name,)))
    return findings


def _run_error(name: str, detail: str) -> Finding:
    return Finding("error", "runs", f"run {name!r}: {detail}", RESTORE_RUN, (name,))


def _error(check: str, detail: str, *ids: str) -> Finding:
    return Finding("error", check, detail, RESTORE, ids)
