"""Run the frameworks' own tests with the classes of mnesis in place: `python -m tests.upstream [langchain-core] [openai-agents]`.

The tests come from the framework's source distribution of the installed version, which uv fetches. A pytest plugin puts a class
of mnesis where the framework's own class was. A test may fail only if `ALLOWED` has a reason; a test that is listed must
fail, so that the list stays true. llama-index-core's source distribution contains no tests; `tests/llamaindex` and the suite of
adapters check what its documentation promises.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PLUGINS = Path(__file__).parent / "plugins"


@dataclass(frozen=True)
class Suite:
    """The tests of a framework, the plugin that swaps its class, and the tests that fail, each with the reason."""

    paths: tuple[str, ...]
    plugin: str
    allowed: dict[str, str]
    packages: tuple[str, ...] = ()
    """What the tests import and mnesis does not need."""


CONNECTIONS = "reads the private connections and locks of SQLiteSession"
ROWS = "writes damaged rows to the tables of SQLiteSession; tests/store/test_damage.py damages those of mnesis"
TABLES = "drops the tables of SQLiteSession; tests/store checks failing writes"
_SESSION = "tests/memory/test_session.py::test_sqlite_session_"

SUITES = {
    "langchain-core": Suite(
        paths=(
            "tests/unit_tests/chat_history/test_chat_history.py",
            "tests/unit_tests/runnables/test_history.py",
        ),
        plugin="swap_langchain",
        allowed={
            "tests/unit_tests/chat_history/test_chat_history.py::test_chat_history_deprecated[SwappedHistory]": (
                "expects the deprecation note in the docstring of LangChain's own class"
            ),
        },
        packages=("pytest-mock", "pytest-socket", "syrupy"),
    ),
    "openai-agents": Suite(
        paths=("tests/memory/test_session.py", "tests/memory/test_session_limit.py", "tests/test_soft_cancel.py"),
        plugin="swap_agents",
        allowed={
            **dict.fromkeys(
                (
                    f"{_SESSION}close_closes_worker_thread_connections",
                    f"{_SESSION}close_retries_quarantined_connection",
                    f"{_SESSION}closes_retired_connections_before_the_next_allocation",
                    f"{_SESSION}file_lock_is_shared_across_instances",
                    f"{_SESSION}keeps_connections_of_live_worker_threads",
                    f"{_SESSION}post_commit_cancellation_propagates_after_known_outcome[add]",
                    f"{_SESSION}post_commit_cancellation_propagates_after_known_outcome[clear]",
                    f"{_SESSION}post_commit_cancellation_propagates_after_known_outcome[pop]",
                    f"{_SESSION}reaps_connections_from_exited_worker_threads",
                    f"{_SESSION}rollback_failure_evicts_connection",
                ),
                CONNECTIONS,
            ),
            **dict.fromkeys(
                (
                    f"{_SESSION}get_items_limit_skips_corrupt_newest_rows",
                    f"{_SESSION}get_items_session_settings_limit_skips_corrupt_rows",
                    f"{_SESSION}pop_item_returns_none_after_dropping_only_corrupt_rows",
                    f"{_SESSION}pop_item_skips_corrupt_most_recent",
                ),
                ROWS,
            ),
            **dict.fromkeys(
                (
                    f"{_SESSION}failed_clear_session_rolls_back",
                    f"{_SESSION}failed_pop_item_releases_write_lock",
                ),
                TABLES,
            ),
            f"{_SESSION}failed_add_items_releases_write_lock": "expects TypeError of json.dumps, not InvalidMessageError",
            f"{_SESSION}closed_rejects_empty_add_items": "expects the words of SQLiteSession, not SessionClosedError",
        },
        packages=("inline-snapshot",),
    ),
}


def fetch_source(package: str, directory: Path) -> Path:
    """Return the unpacked source distribution of the installed version of a package."""
    cache = directory / "cache"
    target = [f"--target={directory / 'wheel'}", f"{package}=={version(package)}"]
    command = ["uv", "pip", "install", "--quiet", "--no-deps", f"--no-binary={package}", *target]
    subprocess.run(command, check=True, env=os.environ | {"UV_CACHE_DIR": str(cache)})
    # uv builds a wheel from the unpacked source, which stays in its cache.
    return next(path.parent.parent for path in cache.glob("sdists-*/pypi/*/*/*/src/tests/__init__.py"))


def install_packages(suite: Suite, directory: Path) -> Path:
    """Install what the tests of a suite import besides, and return where."""
    target = directory / "packages"
    if suite.packages:
        subprocess.run(["uv", "pip", "install", "--quiet", f"--target={target}", *suite.packages], check=True)
    return target


def run_suite(package: str, suite: Suite, source: Path, packages: Path) -> tuple[int, list[str]]:
    """Run a suite in its own directory. Return how many tests passed, and what is wrong, a line for each problem."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", "-p", "no:cacheprovider", "-p", suite.plugin]
    options = ["-o", "addopts=", "-o", "asyncio_mode=auto", "--import-mode=prepend", *suite.paths]
    paths = [str(PLUGINS), str(Path(__file__).parents[2] / "integrations"), str(source)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, str(packages)]), "OPENAI_API_KEY": "unused"}
    outcome = subprocess.run(
        [*command, *options], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    results = {
        match[2].split(" - ")[0].strip(): match[1]
        for match in re.finditer(r"^(PASSED|FAILED|ERROR) (.+)$", outcome.stdout, re.MULTILINE)
    }
    if not results:
        return 0, [outcome.stdout[-3_000:] + outcome.stderr[-3_000:]]
    failed = {name for name, result in results.items() if result != "PASSED"}
    problems = [f"{package}: {name} fails" for name in sorted(failed - suite.allowed.keys())]
    if problems:
        problems.append(outcome.stdout[-12_000:])
    problems += [f"{package}: {name} passes; remove it from the list" for name in sorted(suite.allowed.keys() - failed)]
    return len(results) - len(failed), problems


def main(names: list[str]) -> int:
    """Run the suites and return the exit code."""
    has_problems = False
    for name in names or list(SUITES):
        suite = SUITES[name]
        with tempfile.TemporaryDirectory() as directory:
            source, packages = fetch_source(name, Path(directory)), install_packages(suite, Path(directory))
            passed, problems = run_suite(name, suite, source, packages)
        print(f"{name} {version(name)}: {passed} passed, {len(suite.allowed)} allowed to fail")
        print(*problems, sep="\n")
        has_problems = has_problems or bool(problems)
    return int(has_problems)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
