"""Tests use what is public; the private attributes that they need nevertheless are listed here, each with a reason."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
PROTOCOLS = {
    "_repr_html_",  # of IPython
    "_replace",  # of named tuples
    "_exit",  # of os
}
NEEDED = {
    "cli/test_people_at_the_terminal.py": {"_line_history"},  # the cache of a module, emptied between terminals
    "compaction/test_extract.py": {
        "_Selection",
        "_gain",
    },  # counts how often a gain is computed: the work is the promise
    "compaction/test_spending.py": {"_build_summary"},  # a step that is wrong on purpose
    "compaction/test_very_long_texts.py": {"_encoded_tokens"},  # counts how often a text is encoded
    "files/test_explorer_tables.py": {"_count_lines"},  # fails if lines are counted where they are known
    "files/test_file_intake.py": {"_compactor"},  # one sweep without the turn that would begin it
    "langchain/test_known_messages.py": {"_threads"},  # the caches whose size is bounded
    "llamaindex/test_engines.py": {"_memory"},  # LlamaIndex's engine has no public name for its memory
    "llamaindex/test_views.py": {"_open_history"},  # what the framework does between two calls
    "llm/test_litellm_failures.py": {"_load_litellm"},  # a package that cannot be loaded
    "llm/test_openai_compatible.py": {"_sessions"},  # connections are closed, which nothing else shows
    "search/test_bounded_search.py": {"_open_connection"},  # rows that SQLite reads
    "session/test_session_locks.py": {"_log_destroy_pending"},  # of asyncio: the task is lost on purpose
    "store/postgres/test_lost_connections.py": {"_cleanup", "_pipeline", "_take_connection"},  # where it is lost
    "store/test_connection.py": {"_source", "_worker"},  # aiosqlite's private names that the store uses
    "store/test_connection_loops.py": {"_run_transaction"},  # what runs on the thread is no coroutine
    "store/test_file_access.py": {"_connect"},  # a file that is replaced while it is opened
    "support/litellm_clients.py": {"_close", "_loop"},  # aiohttp has no public way to close a session of an ended loop
    "tokens/test_model_info.py": {"_COST_MAP", "_limits_tables", "_warn_unknown"},  # caches, and the file of litellm
    "upstream/plugins/swap_langchain.py": {"_get_running_loop", "_set_running_loop"},  # of asyncio
}


def private_attributes(path: Path) -> set[str]:
    """Return the private attributes of other objects that a file uses, apart from those that it defines itself."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    own |= {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
    return {node.attr for node in attributes if not node.attr.endswith("__")} - own - PROTOCOLS


def test_tests_use_no_private_attributes_but_those_listed() -> None:
    used = {path.relative_to(TESTS).as_posix(): private_attributes(path) for path in TESTS.rglob("*.py")}
    assert {name: found for name, found in used.items() if found} == NEEDED
