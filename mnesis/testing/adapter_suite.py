# ruff: noqa: S101  # tests assert
"""The conformance suite of adapters, for authors of an adapter to another framework.

```python
class MyDriver(AdapterDriver):
    ...  # how the framework's own methods are called


class TestMyAdapter(AdapterSuite):
    driver_class = MyDriver
```

The tests are coroutines: run them with pytest-asyncio in auto mode, or mark the class. They use pytest's `tmp_path` and no
other fixture. The driver must be importable by its module and name, because other processes use it too. This module does not
import pytest.
"""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from mnesis.session.session import MnesisSession
from mnesis.testing.store_samples import HOSTILE_TEXTS

LARGE_LIMIT_TOKENS = 200_000
SMALL_LIMIT_TOKENS = 1_500
TURN_WORDS = 60
TURNS = 16
"""Texts that, together with the calls, exceed the small limit."""
SESSION_ID = "s"
PROCESSES = 1
"""Besides the process of the test."""
TURNS_PER_PROCESS = 5


class AdapterDriver(ABC):
    """Calls one adapter through its framework's own methods. An item is a message of the framework.

    `db_path` and `session_id` name the session; `token_limit` is the size of the result of `read()`. The constructor
    creates the adapter and does no I/O. `adapter` is the object that users hold; the suite replaces it by a copy.
    """

    every_item: ClassVar[Sequence[Any]]
    """Items of every type and form that the framework has."""
    can_be_pickled: ClassVar[bool] = True

    adapter: Any

    def __init__(self, db_path: Path, session_id: str, token_limit: int) -> None:
        self.db_path, self.session_id, self.token_limit = db_path, session_id, token_limit
        self.adapter = self.create_adapter()

    @abstractmethod
    def create_adapter(self) -> Any:
        """Create the adapter for the session, as a user does."""

    @abstractmethod
    def make_turn(self, number: int, text: str) -> list[Any]:
        """Return a turn's items: a question that contains `text`, a call with `text` in its arguments, its result, and an answer.

        Ids contain `number`, which is unique in a session.
        """

    @abstractmethod
    async def add(self, items: Sequence[Any]) -> None:
        """Store items."""

    @abstractmethod
    async def read(self) -> list[Any]:
        """Return the items for the next request."""

    @abstractmethod
    async def read_log(self) -> list[Any]:
        """Return every item that was ever stored."""

    @abstractmethod
    async def clear(self) -> None:
        """Begin a new conversation in the session."""

    @abstractmethod
    async def close(self) -> None:
        """Release the database."""

    @abstractmethod
    def text_of(self, item: Any) -> str:
        """Return the text of an item, with the arguments of calls and the output of results."""

    @abstractmethod
    def check_request(self, items: Sequence[Any]) -> None:
        """Raise AssertionError if a provider would reject a request with these items."""

    def expected(self, items: Sequence[Any]) -> list[Any]:
        """Return the items that stored items must be equal to. The default is the items themselves."""
        return list(items)


class AdapterSuite:
    """The promises of an adapter, each as a test. Subclass it and set `driver_class`."""

    driver_class: ClassVar[type[AdapterDriver]]

    @asynccontextmanager
    async def open(
        self, directory: Path, token_limit: int = LARGE_LIMIT_TOKENS, session_id: str = SESSION_ID
    ) -> AsyncIterator[AdapterDriver]:
        """Open a session of the directory's database. Sessions of one directory share the database."""
        driver = self.driver_class(directory / "adapter.db", session_id, token_limit)
        try:
            yield driver
        finally:
            await driver.close()

    def make_turns(self, driver: AdapterDriver, count: int = TURNS, first: int = 0) -> list[list[Any]]:
        """Return turns with different texts."""
        return [driver.make_turn(number, text=make_text(number)) for number in range(first, first + count)]

    async def test_creating_an_adapter_does_no_io(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  # nothing else runs
            assert await driver.read() == []
            assert await driver.read_log() == []

    async def test_every_item_comes_back_equal_and_in_order(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            expected = driver.expected(driver.every_item)
            await driver.add(driver.every_item)
            assert await driver.read_log() == expected
        async with self.open(tmp_path) as driver:
            assert await driver.read_log() == expected

    async def test_items_that_are_added_one_by_one_come_back_equal(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            for item in driver.every_item:
                await driver.add([item])
            assert await driver.read_log() == driver.expected(driver.every_item)

    async def test_any_text_comes_back_equal(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            turns = [driver.make_turn(number, text=text) for number, text in enumerate(HOSTILE_TEXTS)]
            items = [item for turn in turns for item in turn]
            await driver.add(items)
            assert await driver.read() == await driver.read_log() == driver.expected(items)

    async def test_a_short_history_is_shown_unchanged(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            items = [item for turn in self.make_turns(driver, 3) for item in turn]
            await driver.add(items)
            assert await driver.read() == driver.expected(items)
            driver.check_request(await driver.read())

    async def test_requests_of_a_long_history_are_valid_and_within_the_limit(self, tmp_path: Path) -> None:
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            stored: list[Any] = []
            for turn in self.make_turns(driver):
                # A question is shown before the call, and the result before the answer.
                for items in (turn[:1], turn[1:3], turn[3:]):
                    await driver.add(items)
                    stored += items
                    shown = await driver.read()
                    driver.check_request(shown)
                    # Every tokenizer counts a word as one token at least.
                    assert count_words(driver, shown) <= SMALL_LIMIT_TOKENS
                expected, log = driver.expected(turn), driver.expected(stored)
                assert shown[-len(expected) :] == expected
                positions = [log.index(item) for item in shown if item in log]
                assert positions == sorted(set(positions))  # each once, and in the order of the log
            words = count_words(driver, stored)
            assert words > SMALL_LIMIT_TOKENS, f"the turns of make_turn() have too few words to be folded: {words}"
            assert await driver.read_log() == log

    async def test_folded_text_is_found_by_search(self, tmp_path: Path) -> None:
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            for turn in self.make_turns(driver):
                await driver.add(turn)
                await driver.read()
            assert make_text(0) not in texts_of(driver, await driver.read())
        async with await MnesisSession.load(SESSION_ID, db_path=tmp_path / "adapter.db") as session:
            assert await session.summaries()
            assert [hit for hit in await session.search("subject0") if "subject0" in hit.excerpt]

    async def test_reading_changes_nothing_and_a_new_object_continues(self, tmp_path: Path) -> None:
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            for turn in self.make_turns(driver):
                await driver.add(turn)
        # Closing has waited for compactions in the background, which may change the result of a read.
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            shown, log = await driver.read(), await driver.read_log()
            async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as other:
                assert await other.read() == shown
            assert await driver.read() == shown
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            assert await driver.read() == shown
            (newest,) = self.make_turns(driver, 1, first=TURNS)
            await driver.add(newest)
            assert await driver.read_log() == [*log, *driver.expected(newest)]

    async def test_clear_empties_the_history_and_the_log_keeps_everything(self, tmp_path: Path) -> None:
        async with self.open(tmp_path, SMALL_LIMIT_TOKENS) as driver:
            for turn in self.make_turns(driver):
                await driver.add(turn)
            log = await driver.read_log()
            await driver.clear()
            assert await driver.read() == []
            (newest,) = self.make_turns(driver, 1, first=TURNS)
            await driver.add(newest)
            assert await driver.read() == driver.expected(newest)
            assert await driver.read_log() == [*log, *driver.expected(newest)]

    async def test_sessions_do_not_see_each_other(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as one, self.open(tmp_path, session_id="other") as other:
            first, second = self.make_turns(one, 2)
            await asyncio.gather(one.add(first), other.add(second))
            assert await one.read() == one.expected(first)
            assert await other.read() == other.expected(second)

    async def test_concurrent_writers_lose_and_split_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as one, self.open(tmp_path) as other:
            turns = self.make_turns(one, 20)
            await asyncio.gather(*[(one, other)[i % 2].add(turn) for i, turn in enumerate(turns)])
            assert_contains_turns(await one.read_log(), [one.expected(turn) for turn in turns])

    async def test_several_processes_lose_and_split_nothing(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            context = multiprocessing.get_context("spawn")
            processes = [
                context.Process(
                    target=_add_turns, args=(self.driver_class, driver.db_path, (index + 1) * TURNS_PER_PROCESS)
                )
                for index in range(PROCESSES)
            ]
            for process in processes:
                process.start()
            own = self.make_turns(driver, TURNS_PER_PROCESS)
            for turn in own:
                await driver.add(turn)
            for process in processes:
                await asyncio.to_thread(process.join)
            assert [process.exitcode for process in processes] == [0] * PROCESSES
            turns = self.make_turns(driver, TURNS_PER_PROCESS * (PROCESSES + 1))
            assert_contains_turns(await driver.read_log(), [driver.expected(turn) for turn in turns])
            driver.check_request(await driver.read())

    async def test_another_event_loop_reads_and_writes_the_same_history(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            first, second = self.make_turns(driver, 2)
            await driver.add(first)
            await asyncio.to_thread(asyncio.run, driver.add(second))
            assert await asyncio.to_thread(asyncio.run, driver.read_log()) == driver.expected([*first, *second])
            assert await driver.read_log() == driver.expected([*first, *second])

    async def test_a_cancelled_write_is_stored_completely_or_not_at_all(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            turns = self.make_turns(driver, 12)
            for steps, turn in enumerate(turns):
                task = asyncio.ensure_future(driver.add(turn))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            (newest,) = self.make_turns(driver, 1, first=len(turns))
            await driver.add(newest)
            log, expected = await driver.read_log(), [driver.expected(turn) for turn in [*turns, newest]]
            assert_contains_turns(log, [turn for turn in expected if turn[0] in log])
            assert log[-len(expected[-1]) :] == expected[-1]

    async def test_copies_and_pickles_continue_the_same_session(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            if not driver.can_be_pickled:
                return
            turns = self.make_turns(driver, 4)
            await driver.add(turns[0])
            original = driver.adapter
            copies = [copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))]  # noqa: S301  # its own pickle
            for adapter, turn in zip(copies, turns[1:], strict=True):
                driver.adapter = adapter
                await driver.add(turn)
            driver.adapter = original
            items = [item for turn in turns for item in turn]
            assert await driver.read_log() == driver.expected(items)
            driver.adapter = copies[-1]
            assert await driver.read() == driver.expected(items)
            await driver.close()
            driver.adapter = original

    async def test_other_apis_read_and_continue_the_session(self, tmp_path: Path) -> None:
        async with self.open(tmp_path) as driver:
            (turn,) = self.make_turns(driver, 1)
            await driver.add(turn)
            async with await MnesisSession.load(SESSION_ID, db_path=driver.db_path) as session:
                messages = await session.messages()
                assert make_text(0) in messages[0].text_content()
                calls = [call for message in messages for call in message.tool_calls]
                assert calls, "the call of make_turn() is stored without a ToolPart, so that other APIs do not see it"
                await session.record("asked natively", "answered natively")
            async with self.open(tmp_path) as other:
                shown = await other.read()
                assert shown[: len(driver.expected(turn))] == driver.expected(turn)
                assert "asked natively" in texts_of(other, shown[-2:])
                assert "answered natively" in texts_of(other, shown[-1:])
                other.check_request(shown)

    async def test_a_session_that_another_api_began_is_continued(self, tmp_path: Path) -> None:
        path = tmp_path / "adapter.db"
        async with MnesisSession.open(
            model=None, session_id=SESSION_ID, db_path=path, budget=LARGE_LIMIT_TOKENS
        ) as session:
            await session.record("asked natively", "answered natively")
        async with self.open(tmp_path) as driver:
            assert "answered natively" in texts_of(driver, await driver.read())
            (turn,) = self.make_turns(driver, 1)
            await driver.add(turn)
            assert (await driver.read())[-len(driver.expected(turn)) :] == driver.expected(turn)


def make_text(number: int) -> str:
    """Return the text of a question. A text that no other question contains."""
    return f"subject{number} " + " ".join(f"word{number}" for _ in range(TURN_WORDS))


def texts_of(driver: AdapterDriver, items: Sequence[Any]) -> str:
    """Return the texts of items."""
    return "\n".join(driver.text_of(item) for item in items)


def count_words(driver: AdapterDriver, items: Sequence[Any]) -> int:
    """Return the number of words in the texts of items."""
    return len(texts_of(driver, items).split())


def assert_contains_turns(log: Sequence[Any], turns: Sequence[Sequence[Any]]) -> None:
    """Assert that a log contains exactly these turns, in any order, each in one piece."""
    assert len(log) == sum(len(turn) for turn in turns)
    for turn in turns:
        start = log.index(turn[0])
        assert list(log[start : start + len(turn)]) == list(turn)


def _add_turns(driver_class: type[AdapterDriver], db_path: Path, first: int) -> None:
    """Add turns in a separate process."""

    async def add() -> None:
        driver = driver_class(db_path, SESSION_ID, LARGE_LIMIT_TOKENS)
        for number in range(first, first + TURNS_PER_PROCESS):
            await driver.add(driver.make_turn(number, text=make_text(number)))
        await driver.close()

    asyncio.run(add())
