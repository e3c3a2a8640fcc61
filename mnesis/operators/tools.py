"""Operators as tools: what a model can call in `send()` to delegate and to map. Results are bounded in tokens.

Whatever goes wrong is raised: whoever runs the tool shows it to the model, the guard's refusals included.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, MnesisError
from mnesis.models.agents import DelegateResult
from mnesis.models.tool import ToolSpec
from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.child_sessions import current_station
from mnesis.operators.delegation import delegate, delegate_all
from mnesis.operators.inputs import SUFFIXES
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.tool_results import mapped, report, shortened, stored_row, way_on
from mnesis.session.session import MnesisSession

RESULT_TOKENS = 2_000
MAX_TASKS = 16
MAX_ITEMS = 200
PAGE_ITEMS = 200

_TEXT = {"type": "string"}
_DELEGATE = {
    "type": "object",
    "properties": {
        "prompt": {**_TEXT, "description": "The task, with everything that is needed to do it: nothing else is known."},
        "delegated_scope": {**_TEXT, "description": "Which part of your own task this is. Required of sub-agents."},
        "kept_work": {**_TEXT, "description": "Which part you go on doing yourself. Required of sub-agents."},
    },
    "required": ["prompt"],
}
_DELEGATE_ALL = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": _TEXT,
            "description": "Independent tasks, each with everything that is needed to do it.",
        }
    },
    "required": ["tasks"],
}


_MAP_RESULTS = {
    "type": "object",
    "properties": {
        "run_id": _TEXT,
        "after_index": {"type": "integer", "description": "Results after the item of this index; -1 for all."},
    },
    "required": ["run_id"],
}


def delegate_tool(
    session: MnesisSession | None = None,
    *,
    name: str = "delegate",
    read_only: bool = True,
    result_tokens: int = RESULT_TOKENS,
    **settings: Any,
) -> ToolSpec:
    """A tool with which a model hands a task to a sub-agent. `settings` are those of `delegate()`.

    Sub-agents are children of `session`, or of the sub-agent that calls the tool. It is read-only as long as the tools
    of its sub-agents are.
    """

    async def handler(prompt: str, delegated_scope: str = "", kept_work: str = "") -> str:
        result = await delegate(
            prompt,
            session=delegating(session),
            read_only=read_only,
            delegated_scope=delegated_scope,
            kept_work=kept_work,
            **settings,
        )
        if not result.success:
            raise MnesisError(_failure(result))
        return shortened(result.text, result_tokens)

    description = "Hand a part of the work to a sub-agent, which works on its own and gives back its result."
    return ToolSpec(name, description, _DELEGATE, handler, read_only)


def delegate_all_tool(
    session: MnesisSession | None = None,
    *,
    name: str = "delegate_all",
    read_only: bool = True,
    result_tokens: int = RESULT_TOKENS,
    max_tasks: int = MAX_TASKS,
    **settings: Any,
) -> ToolSpec:
    """A tool with which a model has up to `max_tasks` independent tasks done side by side. `settings` are those of
    `delegate_all()`. Otherwise as `delegate_tool`."""

    async def handler(tasks: Sequence[str]) -> str:
        if not isinstance(tasks, list) or not 0 < len(tasks) <= max_tasks:
            raise ConfigurationError(f"tasks is a list of 1 to {max_tasks} texts, not {str(tasks)[:100]!r}")
        results = await delegate_all(tasks, session=delegating(session), read_only=read_only, **settings)
        rows = [
            {"task": number, "result": result.text} if result.success else {"task": number, "error": _failure(result)}
            for number, result in enumerate(results)
        ]
        return report({}, rows, result_tokens, rest=lambda last: "delegate the remaining tasks again, fewer at a time")

    description = f"Have up to {max_tasks} independent tasks done by sub-agents side by side; gives back all results."
    return ToolSpec(name, description, _DELEGATE_ALL, handler, read_only)


def llm_map_tool(
    llm_map: LLMMap,
    *,
    name: str = "llm_map",
    directory: str | os.PathLike[str] | None = None,
    max_items: int = MAX_ITEMS,
    result_tokens: int = RESULT_TOKENS,
    **settings: Any,
) -> ToolSpec:
    """A tool with which a model asks the same about many items. `settings` are those of `LLMMap.run()`.

    The model gives up to `max_items` items as a list, or, inside `directory` where one is given, JSONL files for inputs
    and results, of any length. Without `directory` the tool is read-only.
    """

    async def handler(
        prompt_template: str,
        output_schema: dict[str, Any],
        inputs: list[Any] | None = None,
        input_file: str = "",
        output_file: str = "",
    ) -> str:
        given = _given(inputs, input_file, directory, max_items)
        target = _file(output_file, directory) if output_file else None
        running = llm_map.run(given, prompt_template, output_schema, order="input", output_path=target, **settings)
        return await mapped(running, output_file, result_tokens)

    description = "Ask a language model the same about many items, each on its own; gives back one JSON value per item."
    schema = _map_schema(directory is not None, ["prompt_template", "output_schema"])
    return ToolSpec(name, description, schema, handler, directory is None)


def agentic_map_tool(
    agentic_map: AgenticMap,
    session: MnesisSession | None = None,
    *,
    name: str = "agentic_map",
    read_only: bool = True,
    directory: str | os.PathLike[str] | None = None,
    max_items: int = MAX_ITEMS,
    result_tokens: int = RESULT_TOKENS,
    **settings: Any,
) -> ToolSpec:
    """A tool with which a model gives each of many items to an agent. `settings` are those of `AgenticMap.run()`.

    Agents are children of `session`, or of the sub-agent that calls the tool. Otherwise as `llm_map_tool`; read-only as
    long as the tools of its agents are, too.
    """

    async def handler(
        prompt_template: str,
        output_schema: dict[str, Any] | None = None,
        inputs: list[Any] | None = None,
        input_file: str = "",
        output_file: str = "",
    ) -> str:
        running = agentic_map.run(
            _given(inputs, input_file, directory, max_items),
            prompt_template,
            output_schema=output_schema or None,
            parent=delegating(session),
            read_only=read_only,
            order="input",
            output_path=_file(output_file, directory) if output_file else None,
            **settings,
        )
        return await mapped(running, output_file, result_tokens)

    description = (
        "Give each of many items to an agent of its own, which works until it is done; gives back all results."
    )
    schema = _map_schema(directory is not None, ["prompt_template"])
    return ToolSpec(name, description, schema, handler, read_only and directory is None)


def map_results_tool(engine: Engine, *, name: str = "map_results", result_tokens: int = RESULT_TOKENS) -> ToolSpec:
    """A tool with which a model reads the results of a run that is kept in the database of `engine`, a page at a time."""

    async def handler(run_id: str, after_index: int = -1) -> str:
        await engine.open()
        run = await engine.store.run(run_id)
        items = await engine.store.run_items(run_id, after_index=after_index, limit=PAGE_ITEMS)
        rows = [stored_row(item) for item in items]
        head = {"run_id": run_id, "total": run.stored, "succeeded": run.done, "failed": run.failed}
        total = sum(1 for _ in items) if len(items) < PAGE_ITEMS else run.stored - after_index - 1
        return report(head, rows, result_tokens, way_on(run_id, ""), total=total)

    return ToolSpec(name, "Read results of a map, by its run_id.", _MAP_RESULTS, handler, True)


def delegating(session: MnesisSession | None) -> MnesisSession | None:
    """Who delegates: the sub-agent that calls the tool, if it lives in the same database, else the tool's own session."""
    station = current_station()
    if station is None or session is None or station.session.engine.path != session.engine.path:
        return session
    return station.session


def _given(
    inputs: list[Any] | None, input_file: str, directory: str | os.PathLike[str] | None, max_items: int
) -> list[Any] | Path:
    """The inputs a model gave: a list, or a file where that is allowed; one of them."""
    if (inputs is None) == (not input_file):
        raise ConfigurationError("give inputs, a list of items" + (", or input_file" if directory is not None else ""))
    if input_file:
        return _file(input_file, directory)
    if not isinstance(inputs, list) or not 0 < len(inputs) <= max_items:
        raise ConfigurationError(f"inputs is a list of 1 to {max_items} items, not {str(inputs)[:100]!r}")
    return inputs


def _file(name: str, directory: str | os.PathLike[str] | None) -> Path:
    """A file the model names, inside the directory it may use."""
    if directory is None:
        raise ConfigurationError("this tool reads and writes no files; give inputs as a list")
    base = Path(directory).expanduser().resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or path.suffix not in SUFFIXES:
        raise ConfigurationError(f"{name!r} is no file this tool may use: name one ending in .jsonl, without a way out")
    return path


def _map_schema(files: bool, required: list[str]) -> dict[str, Any]:
    """The arguments of a map; files only where they may be used."""
    properties: dict[str, Any] = {
        "prompt_template": {
            **_TEXT,
            "description": "What is asked about each item: a Jinja template with {{ item }}, or {{ item.field }}.",
        },
        "inputs": {"type": "array", "items": {}, "description": "The items: texts, numbers or objects."},
        "output_schema": {"type": "object", "description": "The JSON Schema of each answer."},
    }
    if files:
        properties["input_file"] = {**_TEXT, "description": "A JSONL file with an item per line, in place of inputs."}
        properties["output_file"] = {**_TEXT, "description": "A JSONL file (name.jsonl) for all results."}
    return {"type": "object", "properties": properties, "required": required if files else [*required, "inputs"]}


def _failure(result: DelegateResult) -> str:
    last = f" Its last words: {shortened(result.text, 200)}" if result.text else ""
    return f"the sub-agent failed ({result.error_kind}): {result.error}.{last}"
