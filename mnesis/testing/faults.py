"""Faults for tests: kill or fail an operation at its k-th step, for every k, and check what is stored afterwards.

A step is an SQL statement, or a change of a file's name. `python -m mnesis.testing.fault_report` kills every operation of every API
at every step. `sweep_kills` and `sweep_failures` do it for one `Operation`, which may be your own.

Kills need `os.fork`: the process that is killed is a child, and its parent checks the database.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sqlite3
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mnesis.errors import MnesisError
from mnesis.store.sqlite.connection import StoreConnection
from mnesis.testing.history import History, check_database

FaultKind = Literal["kill", "kill inside", "fail"]
"""`kill` dies before the step, `kill inside` in the middle of a statement, `fail` raises an I/O error instead of the step."""

MAX_STEPS = 10_000
"""No operation has as many steps."""
INSTRUCTIONS_BEFORE_KILL = 20
_FILE_EVENTS = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir"})


@dataclass
class Scene:
    """Where an operation runs, and what it reports. `directory` is its own; the database is `path`.

    An operation opens what it needs, calls `arm()`, does its work, and reports messages with `attempt()` and `acknowledge()`.
    Steps before `arm()` do not count.
    """

    directory: Path
    arm: Callable[[], None]
    report: Callable[[str], None]
    run: str

    @property
    def path(self) -> Path:
        """The database."""
        return self.directory / "s.db"

    def attempt(self, session_id: str, *names: str, atomic: bool = True) -> list[str]:
        """Report that messages with these texts are about to be stored, in this order, and return the texts.

        `atomic` means that all of them are stored or none; otherwise a first part may be.
        """
        texts = [f"{name} {self.run}" for name in names]
        self.report("\t".join(("attempt", session_id, "1" if atomic else "", *texts)))
        return texts

    def acknowledge(self) -> None:
        """Report that the call for the last attempt has returned."""
        self.report("acknowledge")


@dataclass(frozen=True)
class Operation:
    """Something that can be interrupted: an API, a name, and the work.

    `prepare` fills a new database once. `verify` looks for violations that the general checks do not see.
    """

    api: str
    name: str
    work: Callable[[Scene], Awaitable[None]]
    prepare: Callable[[Scene], Awaitable[None]] | None = None
    verify: Callable[[Path], Awaitable[list[str]]] | None = None


@dataclass
class SweepResult:
    """What a sweep did: the steps of the operation, the faults, and the violations, which should be none."""

    operation: Operation
    steps: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)


class FaultPoint:
    """A counter of steps that carries out a fault at step `at`. Steps count from 1, once it is armed."""

    def __init__(self, at: int, kind: FaultKind, directory: Path) -> None:
        self.at, self.kind = at, kind
        self.steps = 0
        self.has_fired = False
        self._directory = os.path.realpath(directory)
        self._is_armed = False
        self._lock = threading.Lock()

    def arm(self) -> None:
        """Start counting."""
        self._is_armed = True

    def enter_statement(self, connection: sqlite3.Connection) -> bool:
        """Count a statement. Returns whether the process must be killed once it has run."""
        if not self._count():
            return False
        if self.kind == "kill inside":
            connection.set_progress_handler(kill, INSTRUCTIONS_BEFORE_KILL)
            return True
        error = sqlite3.OperationalError("disk I/O error (injected)")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        self._fire(error)
        return False

    def enter_file_event(self, arguments: tuple[Any, ...]) -> None:
        """Count a change of a file's name inside the directory of the scene."""
        is_inside = any(
            isinstance(each, str | bytes | os.PathLike) and os.fsdecode(each).startswith(self._directory)
            for each in arguments
        )
        if is_inside and self._count():
            self._fire(OSError(errno.EIO, "Input/output error (injected)"))

    def _count(self) -> bool:
        if not self._is_armed:
            return False
        with self._lock:
            self.steps += 1
            is_now = self.steps == self.at
            self.has_fired = self.has_fired or is_now
        return is_now

    def _fire(self, error: Exception) -> None:
        if self.kind == "fail":
            raise error
        kill()


def kill() -> int:
    """Kill this process at once, as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


_active: FaultPoint | None = None
_is_hook_installed = False


@contextmanager
def inject(point: FaultPoint) -> Iterator[FaultPoint]:
    """Send the steps of all SQLite stores of this process, and of its files, to a fault point."""
    global _active, _is_hook_installed
    if not _is_hook_installed:
        sys.addaudithook(_on_event)  # it cannot be removed, so it looks at `_active`
        _is_hook_installed = True
    _active = point
    setattr(StoreConnection, "execute", _execute)  # noqa: B010  # the inherited method has an overloaded type
    try:
        yield point
    finally:
        del StoreConnection.execute
        _active = None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _FILE_EVENTS and _active is not None:
        _active.enter_file_event(arguments)


def _execute(self: StoreConnection, *arguments: Any) -> sqlite3.Cursor:
    dies_after = _active.enter_statement(self) if _active is not None else False
    try:
        return sqlite3.Connection.execute(self, *arguments)
    finally:
        if dies_after:  # the statement was too short to die in
            kill()


def sweep_kills(
    operation: Operation, directory: Path, *, inside: bool = False, steps: Iterable[int] = range(1, MAX_STEPS)
) -> SweepResult:
    """Kill a child at each of the steps of an operation until one survives, and check the database after each kill.

    All children use the same database one after another, so each of them also recovers from the kill before it.
    """
    warm_up()
    result, history = SweepResult(operation), History()
    _run_child(operation, directory, history, FaultPoint(0, "kill", directory), "prepare")
    for step in steps:
        point = FaultPoint(step, "kill inside" if inside else "kill", directory)
        code = _run_child(operation, directory, history, point, f"run{step}")
        result.violations += [
            f"{operation.api} {operation.name}, step {step}: {each}"
            for each in asyncio.run(_check(operation, directory, history))
        ]
        if code == 0:
            return result
        if code != -signal.SIGKILL:
            result.violations.append(f"{operation.api} {operation.name}, step {step}: the child ended with {code}")
            return result
        result.steps, result.faults = step, result.faults + 1
    return result


def warm_up() -> None:
    """Load what every child would load again: token tables and lazily imported modules."""
    from mnesis.tokens.estimator import TokenEstimator

    TokenEstimator().estimate("warm", model="openai/gpt-4o")
    for module in (
        "langchain_mnesis",
        "llama_index.memory.mnesis",
        "regex",
        "jsonschema",
        "jinja2",
        "anyio._backends._asyncio",
    ):
        with suppress(ImportError):
            import_module(module)


async def sweep_failures(
    operation: Operation, directory: Path, *, steps: Iterable[int] = range(1, MAX_STEPS)
) -> SweepResult:
    """Let each of the steps of an operation fail with an I/O error until no step is left, and check the database each time.

    The operation must succeed or raise a `MnesisError`. It runs in this process, so other tests must not run beside it.
    """
    result, history = SweepResult(operation), History()
    reader = history.reader()
    if operation.prepare is not None:
        await operation.prepare(Scene(directory, _ignore, reader, "prepare"))
    for step in steps:
        point = FaultPoint(step, "fail", directory)
        try:
            with inject(point):
                await operation.work(Scene(directory, point.arm, reader, f"run{step}"))
        except MnesisError:
            pass
        except Exception as error:
            result.violations.append(f"{operation.api} {operation.name}, step {step}: untyped {error!r}")
        gc.collect()
        result.violations += [
            f"{operation.api} {operation.name}, step {step}: {each}"
            for each in await _check(operation, directory, history)
        ]
        if not point.has_fired:
            return result
        result.steps, result.faults = step, result.faults + 1
    return result


async def _check(operation: Operation, directory: Path, history: History) -> list[str]:
    violations = await check_database(directory / "s.db", history)
    return violations + (await operation.verify(directory) if operation.verify is not None else [])


def _run_child(operation: Operation, directory: Path, history: History, point: FaultPoint, run: str) -> int:
    """Run an operation in a child, record what it reports, and return its exit code (negative for a signal)."""
    lines, ours = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process do not matter to the child
        pid = os.fork()
    if not pid:
        os.close(lines)
        _be_child(operation, directory, point, run, ours)
    os.close(ours)
    with os.fdopen(lines, encoding="utf-8") as reports:
        read = history.reader()
        for line in reports:
            read(line.rstrip("\n"))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _be_child(operation: Operation, directory: Path, point: FaultPoint, run: str, pipe: int) -> None:
    code = 1
    try:
        scene = Scene(directory, point.arm, lambda line: _write(pipe, line), run)
        with inject(point):
            work = operation.prepare if run == "prepare" else operation.work
            if work is not None:
                asyncio.run(_await(work(scene)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _write(pipe: int, line: str) -> None:
    os.write(pipe, line.encode() + b"\n")


async def _await(work: Awaitable[None]) -> None:
    await work


def _ignore() -> None:
    """Arm nothing."""
