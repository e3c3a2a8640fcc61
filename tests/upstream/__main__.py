"""Run the frameworks' own tests with the classes of mnesis in place: `python -m tests.upstream`.

The tests come from the framework's source distribution of the installed version, which uv fetches. A pytest plugin puts a class
of mnesis where the framework's own class was. A test may fail only if its suite allows it with a reason; a test that is listed
must fail, so that the list stays true.

llama-index-core's source distribution contains no tests. Its suite runs from a checkout of the installed version:
`python -m tests.upstream llama-index-core --source llama_index/llama-index-core`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
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
    checkout: Checkout | None = None
    """Where the tests are if the source distribution does not contain them."""


@dataclass(frozen=True)
class Checkout:
    """The public repository of a framework and the folder of its package there."""

    repository: str
    folder: str

    def instruction(self, package: str) -> str:
        """Return how to get the tests of the installed version."""
        directory = self.repository.rsplit("/", 1)[1]
        return (
            f"the source distribution of {package} contains no tests; get them with"
            f" `git clone --depth 1 --branch v{version(package)} {self.repository}` and pass"
            f" `--source {directory}/{self.folder}`"
        )


CONNECTIONS = "reads the private connections and locks of SQLiteSession"
ROWS = "writes damaged rows to the tables of SQLiteSession; tests/store/test_damage.py damages those of mnesis"
TABLES = "drops the tables of SQLiteSession; tests/store checks failing writes"
_SESSION = "tests/memory/test_session.py::test_sqlite_session_"
SUMMARIES = (
    "expects one summary message with the model's words alone; a view names the summary and fits with its marker"
)
FIELDS = "reads fields that a memory of mnesis does not have; docs/llamaindex.md names the replacements"
NEWEST = "expects an empty view; the newest message stays, as with LlamaIndex's own class since 0.14.15"
_BUFFER = "tests/memory/test_chat_memory_buffer.py::test_"
_SUMMARY_BUFFER = "tests/memory/test_chat_summary_memory_buffer.py::test_"
_MEMORY = "tests/memory/test_memory_base.py::test_"

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
    "llama-index-core": Suite(
        paths=(
            "tests/memory/test_chat_memory_buffer.py",
            "tests/memory/test_chat_summary_memory_buffer.py",
            "tests/memory/test_memory_base.py",
            "tests/chat_engine/test_condense_plus_context.py",
            "tests/chat_engine/test_condense_question.py",
            "tests/chat_engine/test_context.py",
            "tests/chat_engine/test_simple.py",
            "tests/chat_engine/test_streaming_history.py",
            "tests/agent/workflow/test_multi_agent_workflow.py",
            "tests/agent/workflow/test_single_agent_workflow.py",
        ),
        plugin="swap_llamaindex",
        allowed={
            f"{_BUFFER}get_when_initial_tokens_same_as_limit_removes_message": NEWEST,
            f"{_BUFFER}get_when_space_for_assistant_message_removes_assistant_message_at_start_of_history": NEWEST,
            f"{_BUFFER}max_tokens": "expects no mark where messages are left out of the view",
            **dict.fromkeys(
                (
                    f"{_SUMMARY_BUFFER}assistant_never_first_message",
                    f"{_SUMMARY_BUFFER}assistant_tool_pairs",
                    f"{_SUMMARY_BUFFER}max_tokens_with_summarizer",
                    f"{_SUMMARY_BUFFER}put_get_summarize_long_message",
                    f"{_SUMMARY_BUFFER}put_get_summarize_message_with_tool_call",
                    f"{_SUMMARY_BUFFER}put_get_summarize_part_of_conversation",
                ),
                SUMMARIES,
            ),
            f"{_SUMMARY_BUFFER}max_tokens_without_summarizer": "expects that get_all() has lost the older messages",
            f"{_SUMMARY_BUFFER}dict_save_load": FIELDS,
            f"{_SUMMARY_BUFFER}string_save_load": FIELDS,
            f"{_MEMORY}initialization": FIELDS,
            **dict.fromkeys(
                (
                    f"{_MEMORY}estimate_token_count_{kind}"
                    for kind in (
                        "audio",
                        "citable_block",
                        "document",
                        "image",
                        "text",
                        "thinking",
                        "tool_call",
                        "video",
                    )
                ),
                "calls the private token counter of Memory",
            ),
            f"{_MEMORY}manage_queue_over_limit": "expects that older messages leave the view without a summary",
            f"{_MEMORY}manage_queue_preserves_conversation_turn": "expects no summary before the first user message",
            "tests/agent/workflow/test_multi_agent_workflow.py::test_workflow_with_state": (
                "expects that editing a returned message edits the history; mnesis returns copies"
            ),
        },
        checkout=Checkout("https://github.com/run-llama/llama_index", "llama-index-core"),
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


def copy_tests(package: str, checkout: Path, directory: Path) -> Path:
    """Return a copy of the tests of a checkout, apart from its code, so that they import the installed package.

    Raises ValueError if the checkout is not one of the installed version.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    if (project["name"], project["version"]) != (package, version(package)):
        raise ValueError(
            f"it contains {project['name']} {project['version']}, but {package} {version(package)} is installed;"
            " check out that version"
        )
    shutil.copytree(checkout / "tests", directory / "tests")
    return directory


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
    passed = results.keys() - failed
    # A checkout may be of a version with fewer tests than those that are listed.
    stale = suite.allowed.keys() & passed if suite.checkout is not None else suite.allowed.keys() - failed
    problems += [f"{package}: {name} passes; remove it from the list" for name in sorted(stale)]
    return len(passed), problems


def main(arguments: list[str]) -> int:
    """Run the suites and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="package", help=f"by default those of {', '.join(SUITES)} with tests"
    )
    parser.add_argument("--source", type=Path, help="the package's folder in a checkout of its repository")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in SUITES]:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(SUITES)}")
    if options.source is not None and len(options.names) != 1:
        parser.error("--source is the checkout of one package; name it")
    has_problems = False
    for name in options.names or [name for name, suite in SUITES.items() if suite.checkout is None]:
        suite = SUITES[name]
        if suite.checkout is not None and options.source is None:
            parser.error(suite.checkout.instruction(name))
        with tempfile.TemporaryDirectory() as directory:
            if options.source is None:
                source = fetch_source(name, Path(directory))
            else:
                try:
                    source = copy_tests(name, options.source, Path(directory) / "source")
                except (OSError, KeyError, ValueError) as error:
                    parser.error(f"{options.source} has no tests of {name}: {error}")
            passed, problems = run_suite(name, suite, source, install_packages(suite, Path(directory)))
        print(f"{name} {version(name)}: {passed} passed, {len(suite.allowed)} allowed to fail")
        print(*problems, sep="\n")
        has_problems = has_problems or bool(problems)
    return int(has_problems)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
