"""The table of faults: each row of the threat and fault model has tests, and they exist."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from mnesis.models.message import text_message
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore

TESTS = Path(__file__).parents[1]

ROWS: dict[int, tuple[str, str]] = {
    1: ("killed at any statement", "faults/test_sweeps.py::test_killed_at_any_step_it_loses_nothing_and_tears_nothing"),
    2: ("power loss", "faults/test_fault_table.py::test_a_write_ahead_log_cut_anywhere_leaves_a_prefix"),
    3: ("no space left", "store/test_files.py::test_a_full_disk_is_reported_and_nothing_acknowledged_is_lost"),
    4: ("read-only database", "store/test_file_access.py::test_a_database_that_may_not_be_written_refuses_writes"),
    5: (
        "a file that is no database",
        "store/test_files.py::test_what_is_no_database_of_ours_is_refused_and_left_alone",
    ),
    6: ("flipped bytes", "store/test_damage.py::test_a_flipped_byte_of_a_message_is_seen_and_the_others_stay_readable"),
    7: ("a newer schema", "store/test_files.py::test_a_newer_schema_is_refused_and_left_alone"),
    8: ("an older schema, migrated by many", "store/test_schema.py::test_many_processes_may_migrate_at_once"),
    9: ("files that disappear", "system/test_open_files.py::test_a_missing_file_is_noticed_before_the_next_write"),
    10: ("plain handles drop locks", "system/test_open_files.py::test_no_name_of_an_open_database_is_taken_in"),
    11: ("files open to others", "store/test_files.py::test_files_are_private_from_the_first_moment"),
    12: (
        "a file system without WAL",
        "store/test_file_access.py::test_a_write_ahead_log_that_is_refused_is_done_without",
    ),
    13: ("the clock steps back", "session/test_promises.py::test_order_does_not_depend_on_the_clock"),
    14: ("a long reader", "faults/test_fault_table.py::test_a_reader_that_stays_open_blocks_no_writer"),
    15: ("several processes", "store/test_processes.py::test_processes_share_a_database_and_a_session"),
    16: (
        "many sessions in one loop",
        "session/test_promises.py::test_fifty_sessions_share_one_thread_and_one_set_of_descriptors",
    ),
    17: (
        "turns at once",
        "session/test_promises.py::test_turns_at_once_never_interleave_and_each_sees_the_ones_before",
    ),
    18: ("cancelled anywhere", "session/test_session_cancellation.py::test_send_can_be_cancelled_wherever_it_waits"),
    19: ("first open by many", "store/test_processes.py::test_eight_processes_may_make_a_database_at_once"),
    20: (
        "a lock held too long",
        "store/test_files.py::test_a_lock_held_too_long_is_reported_and_the_write_can_be_repeated",
    ),
    21: ("never closed", "store/test_file_access.py::test_a_process_that_never_closes_exits_with_everything_stored"),
    22: ("used after close", "session/test_session_lifecycle.py::test_use_after_close_is_a_typed_error"),
    23: (
        "several loops and threads",
        "store/test_connection_loops.py::test_one_store_serves_loops_one_after_another_and_at_once",
    ),
    24: ("fork", "store/test_file_access.py::test_a_forked_child_is_refused_and_the_parent_goes_on"),
    25: (
        "failing handlers",
        "session/test_session_events.py::test_handlers_that_raise_do_not_affect_the_turn",
    ),
    26: (
        "a write after a purge",
        "session/test_session_lifecycle.py::test_purging_a_session_while_its_model_answers_does_not_bring_it_back",
    ),
    27: (
        "failing model calls",
        "session/test_session_failures.py::test_a_failure_is_raised_as_its_type_and_never_stored_as_an_answer",
    ),
    28: (
        "an overflow",
        "session/test_session_failures.py::test_an_overflow_is_answered_with_one_compaction_and_one_more_try",
    ),
    29: ("bad summaries", "compaction/test_quality.py::test_no_summary_is"),
    30: (
        "a context that cannot shrink",
        "session/test_session_failures.py::test_an_overflow_that_cannot_shrink_is_the_providers_error",
    ),
    31: (
        "a message larger than the window",
        "context/test_window.py::test_a_message_larger_than_the_window_is_shown_in_part",
    ),
    32: (
        "a crash in a compaction",
        "compaction/test_sweep.py::test_a_crash_between_summary_and_commit_leaves_the_old_context",
    ),
    33: ("calls without results", "formats/test_render_laws.py::test_calls_and_results_are_paired"),
    34: ("no usage reported", "session/test_session_send.py::test_a_provider_that_reports_no_usage_is_counted_for"),
    35: (
        "no tokenizer tables",
        "tokens/test_counting.py::test_without_tables_counts_are_estimated_offline",
    ),
    36: (
        "a smaller window",
        "session/test_session_compaction.py::test_a_session_loaded_with_a_smaller_window_is_compacted_first",
    ),
    37: (
        "forged marks",
        "session/test_window_promises.py::test_text_that_imitates_marks_of_the_context_forges_nothing",
    ),
    38: ("odd texts", "session/test_session_order.py::test_odd_texts_come_back_exactly"),
    39: ("hostile names", "session/test_session_lifecycle.py::test_any_non_empty_string_names_a_session"),
    40: ("search syntax", "search/test_searching.py::test_no_question_is_taken_for_syntax"),
    41: (
        "patterns that explode",
        "recall/test_grep.py::test_a_pattern_made_to_blow_up_ends_in_time_and_holds_nobody_up",
    ),
    42: (
        "hostile templates",
        "operators/test_map_templates.py::test_ways_out_that_are_put_together_while_rendering_lead_nowhere",
    ),
    43: ("data that names classes", "langchain/test_codec.py::test_no_class_is_built_because_stored_data_names_it"),
    44: (
        "unsuitable files",
        "files/test_bad_files.py::test_an_unsuitable_file_is_refused_by_name_and_nothing_is_stored",
    ),
    45: ("bombs", "files/test_explorer_hostile.py::test_no_content_fails_or_escapes_the_limit"),
    46: ("secrets", "redaction/test_before_storage.py::test_every_kind_of_part_is_redacted_and_nothing_stays_on_disk"),
    47: (
        "terminal escapes and HTML",
        "display/test_hostile_displays.py::test_a_console_gets_lines_within_its_width_and_nothing_that_drives_it",
    ),
    48: ("the inspector and other sites", "inspect/test_guard.py::test_other_host_names_are_refused"),
    49: ("a foreign database", "store/test_damage.py::test_a_check_finds_what_does_not_fit"),
    50: (
        "broken releases of dependencies",
        "cli/test_doctor.py::test_a_litellm_to_stay_away_from_is_an_error_with_a_fix",
    ),
}


def test_every_row_of_the_fault_table_names_a_test_that_exists() -> None:
    assert list(ROWS) == list(range(1, 51))
    missing = []
    for number, (title, test) in ROWS.items():
        path, _, name = test.partition("::")
        source = TESTS / path
        if not source.is_file() or not re.search(rf"^(async )?def {name}\b", source.read_text("utf-8"), re.M):
            missing.append((number, title, test))
    assert missing == []


WRITER = """
import asyncio, os, signal, sys
from mnesis import MnesisSession
async def main():
    async with MnesisSession.open(model=None, session_id="s", db_path=sys.argv[1]) as session:
        for number in range(40):
            await session.record(f"question {number}", f"answer {number}")
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_write_ahead_log_cut_anywhere_leaves_a_prefix(tmp_path: Path) -> None:
    """What a power failure leaves with `durability="normal"`: a beginning of the log, and never half a turn."""
    source = tmp_path / "source"
    source.mkdir()
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(source / "s.db"))
    assert await writer.wait() == -9
    database = await asyncio.to_thread((source / "s.db").read_bytes)
    wal = await asyncio.to_thread((source / "s.db-wal").read_bytes)
    counts = []
    for thousandths in range(0, 1_001, 125):
        db = tmp_path / f"{thousandths}.db"
        await asyncio.to_thread(db.write_bytes, database)
        await asyncio.to_thread(Path(f"{db}-wal").write_bytes, wal[: len(wal) * thousandths // 1_000])
        store = SqliteStore(db)
        await store.open()
        sessions = (await store.sessions()).sessions
        texts = [message.text_content() for message in await store.messages("s")] if sessions else []
        assert texts == [text for n in range(len(texts) // 2) for text in (f"question {n}", f"answer {n}")]
        assert [finding for finding in await store.check() if finding.severity == "error"] == []
        await store.close()
        counts.append(len(texts))
    assert counts == sorted(counts)
    assert counts[-1] == 80


async def test_a_reader_that_stays_open_blocks_no_writer(tmp_path: Path) -> None:
    writer, reader = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    await writer.open()
    await reader.open()
    await writer.create_session(SessionRecord(id="s", model="m"))

    def write_meanwhile(connection: object) -> int:
        """Read, let the other store write in its own thread, and read again: the same state."""
        counts = [connection.execute("SELECT count(*) FROM messages").fetchone()[0]]  # type: ignore[attr-defined]
        for number in range(50):
            message = text_message("user", f"text {number}", token_count=1)
            asyncio.run_coroutine_threadsafe(writer.append("s", Append([message])), loop).result()
        counts.append(connection.execute("SELECT count(*) FROM messages").fetchone()[0])  # type: ignore[attr-defined]
        assert counts == [0, 0]
        return 50

    loop = asyncio.get_running_loop()
    assert await reader.database.read(write_meanwhile) == 50
    assert len(await reader.messages("s")) == 50
    await reader.close()
    await writer.close()
