# ruff: noqa: S101  # tests assert
"""The conformance suite of stores for map runs and file references; see `mnesis.testing.store_suite`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mnesis.errors import InvalidMessageError, RunMismatchError, RunNotFoundError, SessionNotFoundError
from mnesis.models.message import FileRefPart, Message, ToolPart, ToolResultPart
from mnesis.models.run import ItemOutcome, MapRun, RunItem, RunSpec
from mnesis.models.session import SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import expect_error, make_message

SPEC = RunSpec("r", "llm_map", "print", "m", 7)
LEASE = 10


async def begin_sealed_run(store: Store, count: int = 4) -> MapRun:
    """Store a sealed run of `count` items."""
    await store.begin_run(SPEC)
    await store.add_items("r", 0, [str(number) for number in range(count)])
    return await store.seal_run("r", count)


async def claim_indexes(store: Store, worker: str, *, limit: int = 1, now: int = 0, max_claims: int = 3) -> list[int]:
    """Claim items for a worker and return their indexes."""
    items = await store.claim_items("r", worker, limit=limit, now_ms=now, lease_ms=LEASE, max_claims=max_claims)
    return [item.index for item in items]


async def assert_counts_agree(store: Store, run_id: str = "r") -> None:
    """Assert that the counts of a run are those of its items."""
    run, items = await store.run(run_id), await store.run_items(run_id, limit=1_000_000)
    for state in ("pending", "running", "done", "failed"):
        assert getattr(run, state) == sum(item.state == state for item in items)
    assert run.item_count == len(items)
    assert run.attempts == sum(item.attempts for item in items)
    assert [item.index for item in items] == list(range(len(items)))


class RunSuite:
    """The rules of map runs. Subclass it and define a fixture `store` that is empty and open."""

    async def test_a_run_is_begun_once(self, store: Store) -> None:
        expected = MapRun("r", "llm_map", "print", "m", 7)
        assert await store.begin_run(SPEC) == (expected, True)
        assert await store.begin_run(SPEC) == (expected, False)
        assert await store.run("r") == expected

    async def test_a_run_keeps_the_plan_it_was_begun_with(self, store: Store) -> None:
        plan = '{"template": "\\u0000 {{ item }} ä"}'
        await store.begin_run(replace(SPEC, plan=plan))
        await store.begin_run(replace(SPEC, plan='{"another": 1}'))
        assert await store.run_plan("r") == plan
        await store.begin_run(RunSpec("none", "k", "f"))
        assert await store.run_plan("none") == ""
        with expect_error(RunNotFoundError):
            await store.run_plan("unknown")
        with expect_error(InvalidMessageError):
            await store.begin_run(RunSpec("x", "k", "f", plan="\ud800"))
        await store.purge_run("r")
        with expect_error(RunNotFoundError):
            await store.run_plan("r")

    async def test_another_run_of_the_same_id_is_refused(self, store: Store) -> None:
        await store.begin_run(SPEC)
        for other in (RunSpec("r", "llm_map", "other"), RunSpec("r", "agentic_map", "print")):
            with expect_error(RunMismatchError):
                await store.begin_run(other)

    async def test_what_cannot_be_stored_is_refused(self, store: Store) -> None:
        for bad in (RunSpec("", "k", "f"), RunSpec("\ud800", "k", "f"), RunSpec("x", "k", "\ud800")):
            with expect_error(InvalidMessageError):
                await store.begin_run(bad)
        await store.begin_run(SPEC)
        with expect_error(InvalidMessageError):
            await store.add_items("r", 0, ["fine", "\ud800"])
        assert (await store.run("r")).item_count == 0

    async def test_every_verb_refuses_an_unknown_run(self, store: Store) -> None:
        calls: list[Any] = [
            store.add_items("no", 0, ["1"]),
            store.seal_run("no", 0),
            store.claim_items("no", "w", limit=1, now_ms=0, lease_ms=1, max_claims=1),
            store.renew_items("no", "w", [0], now_ms=0, lease_ms=1),
            store.release_items("no", "w", [0]),
            store.finish_items("no", "w", [ItemOutcome(0, "done", "1")]),
            store.give_up_items("no", now_ms=0, max_claims=1, outcome="1"),
            store.retry_failures("no"),
            store.run("no"),
            store.run("\ud800"),
            store.run_items("no"),
            store.purge_run("no"),
        ]
        for call in calls:
            with expect_error(RunNotFoundError):
                await call

    async def test_inputs_come_back_as_they_were_and_may_be_added_again(self, store: Store) -> None:
        await store.begin_run(SPEC)
        inputs = ['"a\\u0000"', '{"ü": "👩"}', "null", ""]
        assert await store.add_items("r", 0, inputs[:3]) == 3
        assert await store.add_items("r", 1, inputs[1:]) == 1
        assert await store.add_items("r", 0, inputs) == 0
        assert await store.run_items("r") == [RunItem(index, text) for index, text in enumerate(inputs)]

    async def test_gaps_and_other_inputs_are_refused_with_nothing_written(self, store: Store) -> None:
        await store.begin_run(SPEC)
        await store.add_items("r", 0, ["0", "1"])
        for first, inputs in ((3, ["3"]), (-1, ["x"]), (1, ["other", "2"]), (0, ["0", "2", "3"])):
            with expect_error(RunMismatchError):
                await store.add_items("r", first, inputs)
        assert (await store.run("r")).item_count == 2

    async def test_a_sealed_run_keeps_its_total(self, store: Store) -> None:
        await store.begin_run(SPEC)
        await store.add_items("r", 0, ["0", "1"])
        with expect_error(RunMismatchError):
            await store.seal_run("r", 3)
        assert (await store.seal_run("r", 2)).total == 2
        assert (await store.seal_run("r", 2)).total == 2
        with expect_error(RunMismatchError):
            await store.add_items("r", 2, ["2"])
        assert await store.add_items("r", 0, ["0", "1"]) == 0

    async def test_claims_go_lowest_first_and_to_one_worker(self, store: Store) -> None:
        await begin_sealed_run(store)
        assert await claim_indexes(store, "a", limit=2) == [0, 1]
        assert await claim_indexes(store, "b", limit=9) == [2, 3]
        assert await claim_indexes(store, "c", limit=9, now=LEASE - 1) == []
        assert await claim_indexes(store, "a", limit=0, now=LEASE) == []
        await assert_counts_agree(store)

    async def test_a_lease_that_ends_frees_its_item_and_a_renewed_one_does_not(self, store: Store) -> None:
        await begin_sealed_run(store)
        await claim_indexes(store, "a", limit=3)
        assert await store.renew_items("r", "a", [1, 3, 99], now_ms=5, lease_ms=LEASE) == [1]
        assert await claim_indexes(store, "b", limit=2, now=LEASE) == [0, 2]
        assert await store.renew_items("r", "a", [0, 1], now_ms=LEASE, lease_ms=LEASE) == [1]
        assert (await store.run_items("r"))[0] == RunItem(0, "0", "running", 2, 0, "b", 2 * LEASE)
        await assert_counts_agree(store)

    async def test_released_items_wait_again_uncounted(self, store: Store) -> None:
        await begin_sealed_run(store, 2)
        await claim_indexes(store, "a", limit=2)
        await store.release_items("r", "b", [0])
        await store.release_items("r", "a", [1, 1])
        assert [item.state for item in await store.run_items("r")] == ["running", "pending"]
        assert (await store.run_items("r"))[1].claims == 0
        assert await claim_indexes(store, "b", limit=2) == [1]
        await assert_counts_agree(store)

    async def test_only_the_holder_finishes_and_only_once(self, store: Store) -> None:
        await begin_sealed_run(store)
        await claim_indexes(store, "a", limit=2)
        await claim_indexes(store, "b", limit=1, now=LEASE)
        outcome = ItemOutcome(0, "done", '"a"', 2, TokenUsage(input=3, output=1), 0.5)
        assert await store.finish_items("r", "a", [outcome]) == []
        late = ItemOutcome(1, "failed", '"late"', 1, TokenUsage(input=1), 0.25)
        assert await store.finish_items("r", "a", [late, late, ItemOutcome(3, "done", "1")]) == [1]
        assert await store.finish_items("r", "b", [outcome]) == [0]
        assert await store.finish_items("r", "b", [outcome]) == []
        run = await store.run("r")
        assert (run.done, run.failed, run.attempts, run.cost) == (1, 1, 3, 0.75)
        assert run.usage == TokenUsage(input=4, output=1, total=5)
        assert (await store.run_items("r"))[0] == RunItem(0, "0", "done", 2, 2, None, None, '"a"')
        await assert_counts_agree(store)

    async def test_items_that_nobody_finishes_are_given_up(self, store: Store) -> None:
        await begin_sealed_run(store, 1)
        for number in range(3):
            assert await claim_indexes(store, f"w{number}", now=number * LEASE) == [0]
        assert await store.give_up_items("r", now_ms=3 * LEASE - 1, max_claims=3, outcome="{}") == []
        assert await claim_indexes(store, "w3", now=3 * LEASE) == []
        assert await store.give_up_items("r", now_ms=3 * LEASE, max_claims=3, outcome="{}") == [0]
        assert (await store.run("r")).is_finished
        await assert_counts_agree(store)

    async def test_failed_items_may_be_tried_again(self, store: Store) -> None:
        await begin_sealed_run(store, 2)
        await claim_indexes(store, "a", limit=2)
        await store.finish_items("r", "a", [ItemOutcome(0, "failed", "1", 2), ItemOutcome(1, "done", "2")])
        assert await store.retry_failures("r") == 1
        assert await store.retry_failures("r") == 0
        assert (await store.run_items("r"))[0] == RunItem(0, "0", attempts=2)
        assert await claim_indexes(store, "b", limit=2, max_claims=1) == [0]
        await assert_counts_agree(store)

    async def test_items_are_read_in_pages_and_by_state(self, store: Store) -> None:
        await begin_sealed_run(store, 5)
        await claim_indexes(store, "a", limit=2)
        assert [item.index for item in await store.run_items("r", after_index=1, limit=2)] == [2, 3]
        assert [item.index for item in await store.run_items("r", state="pending", after_index=2)] == [3, 4]
        assert await store.run_items("r", limit=0) == []

    async def test_runs_are_listed_newest_first_and_purged(self, store: Store) -> None:
        await begin_sealed_run(store)
        await store.begin_run(RunSpec("second", "llm_map", "f"))
        assert [run.id for run in await store.runs()] == ["second", "r"]
        assert [run.id for run in await store.runs(limit=1)] == ["second"]
        await store.purge_run("r")
        assert [run.id for run in await store.runs()] == ["second"]
        assert (await begin_sealed_run(store)).pending == 4
        assert await store.check() == []

    async def test_references_to_files_are_found_by_session_and_by_file(self, store: Store) -> None:
        one, two = FileRefPart(content_id="f1", path="/a"), FileRefPart(content_id="f2", path="/b")
        call = ToolPart(tool_name="t", tool_call_id="c", output="o", output_file=two)
        result = ToolResultPart(tool_call_id="c", output_file=one)
        for session_id in ("s", "t"):
            await store.create_session(SessionRecord(id=session_id, model="m"))
            messages: list[Message] = [
                make_message("user", id="plain"),
                make_message("user", id="own").model_copy(update={"parts": (one, one)}),
                make_message("assistant", id="call").model_copy(update={"parts": (call,)}),
                make_message("tool", id="result").model_copy(update={"parts": (result, two)}),
            ]
            for _ in range(2):
                await store.append(session_id, Append(messages))
        found = await store.file_references(session_id="s")
        expected = [("own", 2, "f1"), ("call", 3, "f2"), ("result", 4, "f1"), ("result", 4, "f2")]
        assert [(each.message_id, each.seq, each.content_id) for each in found] == expected
        assert [(each.session_id, each.seq) for each in await store.file_references(content_id="f2")] == [
            ("s", 3),
            ("s", 4),
            ("t", 3),
            ("t", 4),
        ]
        assert [each.seq for each in await store.file_references(session_id="t", content_id="f1")] == [2, 4]
        assert len(await store.file_references()) == 8
        assert await store.file_references(content_id="\ud800") == []
        files = ["f1", "f2", "f3", "\ud800"]
        assert await store.mentioned_files(files) == {"f1", "f2"}
        assert await store.mentioned_files(files, without_sessions=["s", "nobody"]) == {"f1", "f2"}
        assert await store.mentioned_files(files, without_sessions=["s", "t"]) == set()
        assert await store.check() == []
        await store.purge("s")
        assert {each.session_id for each in await store.file_references()} == {"t"}
        with expect_error(SessionNotFoundError):
            await store.file_references(session_id="s")
