"""Detection of blocking calls in event loops, with blockbuster. LangGraph's development server uses it in the same way."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import blockbuster.blockbuster
from blockbuster import BlockBuster, BlockingError

PACKAGES = ("mnesis", "langchain_mnesis", "llama_index.memory.mnesis", "agents_mnesis", "pydantic_ai_mnesis")

SYNCHRONOUS_BY_CONTRACT = [
    # Synchronous calls also work inside a running loop, which they block: notebooks and synchronous handlers need that.
    ("mnesis/concurrency.py", "run"),
    # `session.history()` is a plain function. `timeline()` reads the same without blocking.
    ("mnesis/store/sqlite/database.py", "read_blocking"),
]

blocking_calls: list[str] = []
"""The stacks of all calls that were refused. Code under test may swallow the error."""


class RecordedBlockingError(BlockingError):
    """A refused call, recorded in `blocking_calls`."""

    def __init__(self, func: str) -> None:
        super().__init__(func)
        blocking_calls.append("".join(traceback.format_stack(limit=12)[:-2]))


@contextmanager
def refuse_blocking_calls() -> Iterator[BlockBuster]:
    """Raise `BlockingError` where code of this project, or code it calls, blocks a running event loop."""
    detector = BlockBuster([name for name in PACKAGES if _is_installed(name)])
    for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
        for file, function in SYNCHRONOUS_BY_CONTRACT:
            detector.functions[name].can_block_in(file, function)
    for name in ("io.TextIOWrapper.write", "io.BufferedWriter.write"):
        # Where log records go is the choice of the application.
        detector.functions[name].can_block_in("logging/__init__.py", "emit")
    # The detector raises the class that its module names when the call is refused.
    blockbuster.blockbuster.BlockingError = RecordedBlockingError  # type: ignore[misc]
    detector.activate()
    try:
        yield detector
    finally:
        detector.deactivate()
        blockbuster.blockbuster.BlockingError = BlockingError  # type: ignore[misc]


def _is_installed(name: str) -> bool:
    try:
        importlib.import_module(name)  # an adapter without its framework is found, but cannot be imported
    except ImportError:
        return False
    return True
