"""Maintenance that `mnesis.testing.faults` kills: after each kill nothing is left, or a state that the next call finishes or clears.

`python -m tests.support.upkeep_operations` kills every one of them at every step, before and inside of it.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from mnesis.cli.app import cli
from mnesis.errors import MnesisStoreError, SessionNotFoundError
from mnesis.models.search import Search
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.salvage import salvage
from mnesis.system.unfinished_files import SUFFIX
from mnesis.testing.fault_migration import write_old_database
from mnesis.testing.fault_report import format_report
from mnesis.testing.faults import Operation, Scene, SweepResult, sweep_kills
from mnesis.testing.store_samples import store_conversation
from tests.support.damage import Flip, store_every_kind

MESSAGES = 11
"""Messages of each session that `store_every_kind` stores."""


async def _run_cli(*arguments: object) -> None:
    """Run a command in this process, in another thread, because a command starts its own event loop."""
    texts = [str(argument) for argument in arguments]
    try:
        await asyncio.to_thread(cli.main, texts, "mnesis", standalone_mode=True)
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{texts} ended with {end.code}") from end


async def _fill(scene: Scene) -> None:
    await store_every_kind(scene.path)


async def _export_and_empty(scene: Scene) -> None:
    await store_every_kind(scene.directory / "source.db")
    await _run_cli("export", "s", "--db", scene.directory / "source.db", "-o", scene.directory / "s.jsonl")
    store = SqliteStore(scene.path)
    await store.open()
    await store_conversation(store, 2, "other")
    await store.close()


async def _import(scene: Scene) -> None:
    """Import a session, which begins with what the import killed before left of it."""
    store = SqliteStore(scene.path)
    await store.open()
    try:
        if (await store.session("s")).unfinished is None:
            await store.purge("s")
    except SessionNotFoundError:
        pass
    await store.close()
    scene.arm()
    await _run_cli("import", scene.directory / "s.jsonl", "--db", scene.path)


async def _imports_are_whole_or_marked(scene: Scene) -> list[str]:
    directory = scene.directory
    store = SqliteStore(directory / "s.db")
    await store.open()
    try:
        return [
            f"session {session.id} has {session.last_seq} messages and looks complete"
            for session in (await store.sessions()).sessions
            if session.id == "s" and session.unfinished is None and session.last_seq != MESSAGES
        ]
    finally:
        await store.close()


async def _write_old(scene: Scene) -> None:
    await store_every_kind(scene.directory / "new.db")
    write_old_database(scene.directory / "new.db", scene.directory / "old.db", 3)


async def _migrate(scene: Scene) -> None:
    """Update an old database, or finish the update of the one that was killed before."""
    if not scene.path.exists() or scene.run.endswith("0"):
        for path in _files(scene.directory, "s.db*"):
            path.unlink()
        shutil.copyfile(scene.directory / "old.db", scene.path)
    scene.arm()
    store = SqliteStore(scene.path)
    await store.open()
    await store.close()


async def _nothing_is_lost(scene: Scene) -> list[str]:
    directory = scene.directory
    store = SqliteStore(directory / "s.db")
    await store.open()
    try:
        counts = {name: len(await store.messages(name)) for name in ("s", "t")}
        return [f"{name} has {count} messages" for name, count in counts.items() if count != MESSAGES]
    finally:
        await store.close()


async def _copies_are_whole(scene: Scene) -> list[str]:
    """Check every finished copy. A copy that a killed process left has another name."""
    directory = scene.directory
    found = []
    for path in _files(directory, "copy-*.db"):
        store = SqliteStore(path)
        try:
            await store.open()
            errors = [finding for finding in await store.check() if finding.severity == "error"]
            found += [f"{path.name}: {finding.detail}" for finding in errors]
            found += [f"{path.name}: {name}" for name in ("s", "t") if len(await store.messages(name)) != MESSAGES]
        except MnesisStoreError as error:
            found.append(f"{path.name}: {error}")
        finally:
            await store.close()
        for each in _files(directory, f"{path.name}*"):
            each.unlink()
    unfinished = {path.name.split(SUFFIX)[0] for path in _files(directory, f".*{SUFFIX}*")}
    return [*found, *(["more than one unfinished copy"] if len(unfinished) > 1 else [])]


def _files(directory: Path, pattern: str) -> list[Path]:
    return list(directory.glob(pattern))


async def _backup(scene: Scene) -> None:
    scene.arm()
    await _run_cli("backup", scene.directory / f"copy-{scene.run}.db", "--db", scene.path)


async def _salvage(scene: Scene) -> None:
    scene.arm()
    await salvage(scene.path, scene.directory / f"copy-{scene.run}.db")


async def _copy_to(scene: Scene) -> None:
    """Copy everything to another database, continuing what was killed before."""
    target = scene.directory / "target.db"
    if scene.run.endswith("0"):
        for path in _files(scene.directory, "target.db*"):
            path.unlink()
    scene.arm()
    await _run_cli("migrate", "--to", target, "--db", scene.path)


async def _target_is_sound(scene: Scene) -> list[str]:
    directory = scene.directory
    if not (directory / "target.db").exists():
        return []
    store = SqliteStore(directory / "target.db")
    try:
        await store.open()
        return [finding.detail for finding in await store.check() if finding.severity == "error"]
    finally:
        await store.close()


async def _reindex(scene: Scene) -> None:
    scene.arm()
    await _run_cli("reindex", "--db", scene.path)


async def _search_damaged_index(scene: Scene) -> None:
    Flip("search_words_data", "block", 10**9, 100).apply(scene.path)
    scene.arm()
    store = SqliteStore(scene.path)
    await store.open()
    await store.search(Search("question"))
    await store.close()


async def _index_is_sound(scene: Scene) -> list[str]:
    directory = scene.directory
    store = SqliteStore(directory / "s.db")
    await store.open()
    try:
        hits = (await store.search(Search("question"))).hits
        return [] if len({hit.session_id for hit in hits}) >= 2 else [f"{len(hits)} hits"]
    finally:
        await store.close()


async def _purge(scene: Scene) -> None:
    store = SqliteStore(scene.path)
    await store.open()
    try:
        await store.session("old")
    except SessionNotFoundError:
        await store_conversation(store, 3, "old")
        await store.search(Search("question"))
    await store.close()
    scene.arm()
    await _run_cli("purge", "old", "--apply", "--db", scene.path)


async def _seal(scene: Scene) -> None:
    (scene.directory / "key").write_text("k" * 32)
    scene.arm()
    await _run_cli("seal", "--key-file", scene.directory / "key", "--db", scene.path)


OPERATIONS = (
    Operation("upkeep", "import", _import, _export_and_empty, _imports_are_whole_or_marked),
    Operation("upkeep", "migrate", _migrate, _write_old, _nothing_is_lost),
    Operation("upkeep", "backup", _backup, _fill, _copies_are_whole),
    Operation("upkeep", "salvage", _salvage, _fill, _copies_are_whole),
    Operation("upkeep", "migrate --to", _copy_to, _fill, _target_is_sound),
    Operation("upkeep", "reindex", _reindex, _fill, _index_is_sound),
    Operation("upkeep", "search of a damaged index", _search_damaged_index, _fill, _index_is_sound),
    Operation("upkeep", "purge", _purge, _fill, _nothing_is_lost),
    Operation("upkeep", "seal", _seal, _fill, _nothing_is_lost),
)


def main() -> None:
    """Kill everything at every step. Exits with 1 if any invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.upkeep_operations", description=__doc__)
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    options = parser.parse_args()
    results: list[SweepResult] = []
    for operation in OPERATIONS:
        for inside in (False, True) if options.only in operation.name else ():
            with tempfile.TemporaryDirectory() as directory:
                results.append(sweep_kills(operation, Path(directory), inside=inside))
    print(format_report(results))
    violations = [violation for result in results for violation in result.violations]
    for violation in violations[:50]:
        print(violation, file=sys.stderr)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
