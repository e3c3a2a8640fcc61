"""Faults for tests: kill or fail an operation at its k-th step, for every k, and check what is stored afterwards.

A step is an SQL statement (of the in-memory store: a verb), or a change of a file's name. `python -m
mnesis.testing.fault_report` kills every operation of every API at every step. `sweep_kills` and `sweep_failures` do it
for one `Operation`, which may be your own, on one of the stores of `mnesis.testing.fault_targets`.

Kills need `os.fork`: the process that is killed is a child, and its parent checks the database.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mnesis.errors import MnesisError
from mnesis.store.base import Store
from mnesis.testing.fault_targets import MEMORY_LOCATION, SQLITE, StepInfo, Target, count_steps
from mnesis.testing.history import History, check_store, find_violations

FaultKind = Literal["kill", "kill inside", "fail"]
"""`kill` dies before the step, `kill inside` in the middle of a statement, `fail` raises an I/O error instead of the step."""

MAX_STEPS = 10_000
"""No operation has as many steps."""
KILLS_PER_DATABASE = 40
"""After this number of kills a sweep continues on a fresh database, because checks take as long as their database is large."""
LATE_MODULES = (
    "langchain_mnesis",
    "llama_index.memory.mnesis",
    "regex",
    "jsonschema",
    "jinja2",
    "anyio._backends._asyncio",
)
"""The modules that operations import while they run, if they are installed."""
ALL_STORES = frozenset({"sqlite", "encrypted", "memory", "postgres"})
FILE_STORES = frozenset({"sqlite", "encrypted"})
_FILE_EVENTS = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir"})


@dataclass
class Scene:
    """The directory in which an operation runs, and its reports. `directory` belongs to the operation alone; the
    database is `path`.

    An operation opens what it needs, calls `arm()`, does its work, and reports messages with `attempt()` and `acknowledge()`.
    Steps before `arm()` do not count. `target` is the store it works on.
    """

    directory: Path
    arm: Callable[[], None]
    report: Callable[[str], None]
    run: str
    target: Target = SQLITE

    @property
    def path(self) -> Path:
        """The database, if it is a file."""
        return self.directory / "s.db"

    @property
    def database(self) -> str:
        """The path or URL of the database."""
        return self.target.locate(self.directory)

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        """Open the database without an engine, to check it."""
        store = self.target.new_store(self.directory)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

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

    `prepare` fills a new database once. `verify` looks for violations that the general checks do not see. `stores` are the
    names of the targets that it works on.
    """

    api: str
    name: str
    work: Callable[[Scene], Awaitable[None]]
    prepare: Callable[[Scene], Awaitable[None]] | None = None
    verify: Callable[[Scene], Awaitable[list[str]]] | None = None
    stores: frozenset[str] = ALL_STORES


@dataclass
class SweepResult:
    """The result of a sweep: the steps of the operation, the faults, and the violations, of which there should be
    none.
    """

    operation: Operation
    steps: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)
    store: str = SQLITE.name


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

    def enter_step(self, step: StepInfo) -> bool:
        """Count a step of the store. Returns whether the process must be killed once it was taken."""
        if not self._count():
            return False
        if self.kind == "kill inside":
            step.interrupt(kill)
            return True
        self._fire(step.make_error())
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
def inject(point: FaultPoint, target: Target = SQLITE) -> Iterator[FaultPoint]:
    """Report the steps of this process's stores and files to a fault point."""
    global _active, _is_hook_installed
    if not _is_hook_installed:
        sys.addaudithook(_on_event)  # the hook cannot be removed, so it checks `_active`
        _is_hook_installed = True
    _active = point
    try:
        with count_steps(target, point.enter_step):
            yield point
    finally:
        _active = None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _active is not None and event in _FILE_EVENTS:  # the names of this module are None when the interpreter ends
        _active.enter_file_event(arguments)


def sweep_kills(
    operation: Operation,
    directory: Path,
    *,
    inside: bool = False,
    steps: Iterable[int] = range(1, MAX_STEPS),
    target: Target = SQLITE,
) -> SweepResult:
    """Kill a child at each of the steps of an operation until one survives, and check the database after each kill.

    Children use the same database one after another, so each of them also recovers from the kill before it. A database in a
    file is replaced by a fresh one after `KILLS_PER_DATABASE` kills.
    """
    warm_up()
    result, prepared = SweepResult(operation, store=target.name), _prepare_scene(operation, directory, target)
    place, history = prepared.copy()
    for step in steps:
        if result.faults and result.faults % KILLS_PER_DATABASE == 0:
            place, history = prepared.copy()
        point = FaultPoint(step, "kill inside" if inside else "kill", place)
        scene = Scene(place, point.arm, _ignore_report, f"run{step}", target)
        code = _run_child(operation, scene, history, point)
        result.violations += [
            f"{target.name}: {operation.api} {operation.name}, step {step}: {each}"
            for each in asyncio.run(_check(operation, scene, history))
        ]
        if code == 0:
            return result
        if code != -signal.SIGKILL:
            result.violations.append(
                f"{target.name}: {operation.api} {operation.name}, step {step}: the child ended with {code}"
            )
            return result
        result.steps, result.faults = step, result.faults + 1
    return result


@dataclass
class _PreparedScene:
    """A directory that `prepare` has filled, with its history. Only databases in files can be copied."""

    directory: Path
    history: History
    is_copied: bool
    _copies: int = 0

    def copy(self) -> tuple[Path, History]:
        """Return the directory and history for the next step: a fresh copy, which replaces the last one, or always the
        same.
        """
        if not self.is_copied:
            return self.directory, self.history
        shutil.rmtree(self._copy_directory, ignore_errors=True)
        self._copies += 1
        shutil.copytree(self.directory, self._copy_directory)
        return self._copy_directory, History(list(self.history.attempts))

    @property
    def _copy_directory(self) -> Path:
        return self.directory.with_name(str(self._copies))


def _prepare_scene(operation: Operation, directory: Path, target: Target) -> _PreparedScene:
    """Fill a directory in a child, which is not killed."""
    history, is_copied = History(), target.is_file
    place = directory / "prepared" if is_copied else directory
    place.mkdir(exist_ok=True)
    scene = Scene(place, _ignore, _ignore_report, "prepare", target)
    _run_child(operation, scene, history, FaultPoint(0, "kill", place))
    return _PreparedScene(place, history, is_copied)


@cache
def warm_up() -> None:
    """Load everything that each child would load again: token tables, lazily imported modules, and the modules of a
    first session. All objects that exist after this are exempt from garbage collection, which would otherwise take most
    of the time of a sweep.
    """
    from mnesis.session.session import MnesisSession
    from mnesis.testing.llm import ScriptedLLM
    from mnesis.tokens.estimator import TokenEstimator

    async def rehearse() -> None:
        async with MnesisSession.open(
            model="openai/gpt-4o", session_id="s", db_path=MEMORY_LOCATION, llm=ScriptedLLM("answer")
        ) as session:
            await session.send("question")
            await session.search("question")
            for number in range(8):
                await session.record(f"Ada found file{number}.py. {'word ' * 400}", "It failed at 10:30.")
            await session.compact()

    for model in ("openai/gpt-4o", "openai/gpt-4"):  # one model of each table
        TokenEstimator().estimate("warm", model=model)
    for module in LATE_MODULES:
        with suppress(ImportError):
            import_module(module)
    worker = threading.Thread(target=lambda: asyncio.run(rehearse()))  # the caller may run in an event loop
    worker.start()
    worker.join()
    gc.collect()
    gc.freeze()


async def sweep_failures(
    operation: Operation, directory: Path, *, steps: Iterable[int] = range(1, MAX_STEPS), target: Target = SQLITE
) -> SweepResult:
    """Let each of the steps of an operation fail until no step is left, and check the database each time.

    The failure is an I/O error, and with PostgreSQL a lost connection.

    The operation must succeed or raise a `MnesisError`. It runs in this process, so other tests must not run at the
    same time.
    """
    warm_up()
    result, history = SweepResult(operation, store=target.name), History()
    reader = history.reader()
    if operation.prepare is not None:
        with inject(FaultPoint(0, "fail", directory), target):
            await operation.prepare(Scene(directory, _ignore, reader, "prepare", target))
    for step in steps:
        point = FaultPoint(step, "fail", directory)
        scene = Scene(directory, point.arm, reader, f"run{step}", target)
        try:
            with inject(point, target):
                await operation.work(scene)
        except MnesisError:
            pass
        except Exception as error:
            result.violations.append(f"{target.name}: {operation.api} {operation.name}, step {step}: untyped {error!r}")
        gc.collect()
        result.violations += [
            f"{target.name}: {operation.api} {operation.name}, step {step}: {each}"
            for each in await _check(operation, scene, history)
        ]
        if not point.has_fired:
            return result
        result.steps, result.faults = step, result.faults + 1
    return result


async def _check(operation: Operation, scene: Scene, history: History) -> list[str]:
    if not scene.target.exists(scene.directory):
        return find_violations(history, {})
    violations = await check_store(scene.target.new_store(scene.directory), history)
    if operation.verify is None:
        return violations
    with inject(FaultPoint(0, "fail", scene.directory), scene.target):
        return violations + await operation.verify(scene)


def _run_child(operation: Operation, scene: Scene, history: History, point: FaultPoint) -> int:
    """Run an operation in a child, record its reports, and return its exit code (negative for a signal)."""
    lines, ours = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process do not matter to the child
        pid = os.fork()
    if not pid:
        os.close(lines)
        _be_child(operation, scene, point, ours)
    os.close(ours)
    with os.fdopen(lines, encoding="utf-8") as reports:
        read = history.reader()
        for line in reports:
            read(line.rstrip("\n"))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _be_child(operation: Operation, scene: Scene, point: FaultPoint, pipe: int) -> None:
    code = 1
    try:
        scene = replace(scene, report=lambda line: _write(pipe, line))
        with inject(point, scene.target):
            work = operation.prepare if scene.run == "prepare" else operation.work
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


def _ignore_report(line: str) -> None:
    """Drop a report: a child sends its own through a pipe."""
