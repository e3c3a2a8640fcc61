"""Cost of a memory per message and per request, compared with LlamaIndex's own memories in one run.

    python -m benchmarks.llamaindex [--sizes 10,100,1000,10000,50000] [--budget-seconds 10]

Each row is a history of n messages of about twenty tokens. `put` stores one more message, `get` reads the view; cells are
medians in milliseconds. A memory that exceeds the time budget at one size is skipped at larger sizes, and the table says so.
Memories with persistent storage use a SQLite file. `ChatMemoryBuffer` and `MnesisMemory` have a limit of 6,000 tokens, so that
the view is about the same at every size. `Memory` has a limit that it never reaches, because its work per put is measured.
`ChatSummaryMemoryBuffer` summarises with a mock model that answers immediately.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.memory.mnesis import MnesisMemory

TOKEN_LIMIT = 6_000
RECENT_MESSAGES = 96
"""Newest messages that are in the view unchanged. With the summary before them the view has about 100 messages."""

ROUNDS = 15
BATCH = 1_000


def make_history(count: int) -> list[ChatMessage]:
    """Return a history of questions and answers."""
    text = "number {}: the train to the coast leaves at noon and stops at every second station on its way"
    return [ChatMessage(role="user" if n % 2 == 0 else "assistant", content=text.format(n)) for n in range(count)]


def buffer(history: list[ChatMessage], directory: Path) -> Any:
    """Create a `ChatMemoryBuffer` with its in-memory store."""
    store = SimpleChatStore(store={"chat_history": history})
    return ChatMemoryBuffer.from_defaults(chat_store=store, token_limit=TOKEN_LIMIT)


def summary_buffer(history: list[ChatMessage], directory: Path) -> Any:
    """Create a `ChatSummaryMemoryBuffer` with a mock model."""
    llm = MockLLM(max_tokens=50)
    return ChatSummaryMemoryBuffer.from_defaults(chat_history=history, llm=llm, token_limit=TOKEN_LIMIT)


def memory_queue(history: list[ChatMessage], directory: Path) -> Any:
    """Create a `Memory` on a SQLite file."""
    uri = f"sqlite+aiosqlite:///{directory / 'queue.db'}"
    return Memory.from_defaults(session_id="s", chat_history=history, token_limit=10**9, async_database_uri=uri)


def mnesis(history: list[ChatMessage], directory: Path) -> Any:
    """Create a `MnesisMemory` on a SQLite file, filled as a conversation fills it and compacted without a model."""
    memory = MnesisMemory.from_defaults(session_id="s", db_path=directory / "mnesis.db", token_limit=TOKEN_LIMIT)
    old, new = history[:-RECENT_MESSAGES], history[-RECENT_MESSAGES:]
    for start in range(0, len(old), BATCH):
        memory.put_messages(old[start : start + BATCH])
        memory.get()
    memory.compact()
    memory.put_messages(new)
    return memory


MEMORIES: dict[str, Callable[[list[ChatMessage], Path], Any]] = {
    "MnesisMemory": mnesis,
    "ChatMemoryBuffer": buffer,
    "Memory (SQLite)": memory_queue,
    "ChatSummaryMemoryBuffer": summary_buffer,
}


def median_milliseconds(work: Callable[[int], object], rounds: int, budget_seconds: float) -> float:
    """Return the median time of `work` over as many rounds as the budget allows, at least one."""
    times: list[float] = []
    while len(times) < rounds and sum(times) < budget_seconds:
        started = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1_000


def measure(name: str, size: int, budget_seconds: float) -> tuple[float, float, int]:
    """Return the milliseconds of a put and of a get, and the number of messages in the view."""
    with tempfile.TemporaryDirectory() as directory:
        memory = MEMORIES[name](make_history(size), Path(directory))
        more = make_history(2 * ROUNDS)
        get = median_milliseconds(lambda _: memory.get(), ROUNDS, budget_seconds)
        view_length = len(memory.get()) if get < budget_seconds * 100 else -1
        put = median_milliseconds(lambda number: memory.put(more[number]), ROUNDS, budget_seconds)
        if isinstance(memory, MnesisMemory):
            memory.close()
        return put, get, view_length


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,100,1000,10000,50000")
    parser.add_argument("--budget-seconds", type=float, default=10.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    over_budget: set[str] = set()
    print(f"{'messages':>8}  {'memory':<24} {'put ms':>10} {'get ms':>10} {'view':>6}")
    for size in map(int, options.sizes.split(",")):
        for name in MEMORIES:
            if name in over_budget:
                print(f"{size:>8}  {name:<24} {'over the budget of the size before':>28}")
                continue
            started = time.perf_counter()
            put, get, view_length = measure(name, size, options.budget_seconds)
            if time.perf_counter() - started > options.budget_seconds and name != "MnesisMemory":
                over_budget.add(name)
            print(
                f"{size:>8}  {name:<24} {put:>10.3f} {get:>10.3f} {view_length if view_length >= 0 else '-':>6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
