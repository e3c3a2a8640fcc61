"""Operators as tools, with which a model delegates tasks and runs maps in `send()`.

Results are bounded in tokens.
Handlers raise their errors, including `DelegationDeniedError`; the session reports them to the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, MnesisError
from mnesis.models.agents import DelegateResult
from mnesis.models.tool import ToolSpec
from mnesis.operators.agentic_map import AgenticMap
from mnesis.operators.child_sessions import current_agent
from mnesis.operators.delegation import CONCURRENCY, delegate, delegate_all
from mnesis.operators.inputs import JSONL_SUFFIXES
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.options import AgenticMapOptions, DelegateOptions, LLMMapOptions, resolve_options
from mnesis.operators.template import SubstitutionTemplate
from mnesis.operators.tool_results import (
    collect_map_results,
    continuation_hint,
    format_results,
    stored_row,
    truncate_to_tokens,
)
from mnesis.session.session import MnesisSession

RESULT_TOKENS = 2_000
ERROR_TEXT_TOKENS = 200
MAX_TASKS = 16
MAX_ITEMS = 200
PAGE_ITEMS = 200

_STRING = {"type": "string"}
_DELEGATE_PARAMETERS = {
    "type": "object",
    "properties": {
        "prompt": {
            **_STRING,
            "description": "The task, with everything that is needed to do it: nothing else is known.",
        },
        "delegated_scope": {**_STRING, "description": "Which part of your own task this is. Required of sub-agents."},
        "kept_work": {**_STRING, "description": "Which part you continue to do yourself. Required of sub-agents."},
    },
    "required": ["prompt"],
}
_DELEGATE_ALL_PARAMETERS = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": _STRING,
            "description": "Independent tasks, each with everything that is needed to do it.",
        }
    },
    "required": ["tasks"],
}
_MAP_RESULTS_PARAMETERS = {
    "type": "object",
    "properties": {
        "run_id": _STRING,
        "after_index": {"type": "integer", "description": "Results after the item of this index; -1 for all."},
    },
    "required": ["run_id"],
}


def delegate_tool(
    session: MnesisSession | None = None,
    *,
    name: str = "delegate",
    result_tokens: int = RESULT_TOKENS,
    **options: Unpack[DelegateOptions],
) -> ToolSpec:
    """Make a tool with which a model delegates a task to a sub-agent.

    `options` are those of `delegate`. Sub-agents are children of `session`, or of the sub-agent that calls the tool.
    The tool is read-only if the tools of its sub-agents are. Raises `TypeError` for an unknown option.
    """
    options = resolve_options("delegate_tool", DelegateOptions, options)

    async def handler(prompt: str, delegated_scope: str = "", kept_work: str = "") -> str:
        result = await delegate(
            prompt,
            session=delegating_session(session),
            delegated_scope=delegated_scope,
            kept_work=kept_work,
            **options,
        )
        if not result.success:
            raise MnesisError(_failure_text(result))
        return truncate_to_tokens(result.text, result_tokens)

    description = "Hand a part of the work to a sub-agent, which works independently and returns its result."
    return ToolSpec(name, description, _DELEGATE_PARAMETERS, handler, options.get("read_only", True))


def delegate_all_tool(
    session: MnesisSession | None = None,
    *,
    name: str = "delegate_all",
    result_tokens: int = RESULT_TOKENS,
    max_tasks: int = MAX_TASKS,
    concurrency: int = CONCURRENCY,
    **options: Unpack[DelegateOptions],
) -> ToolSpec:
    """Make a tool with which a model delegates up to `max_tasks` independent tasks at once.

    `options` are those of `delegate_all`. Otherwise like `delegate_tool`.
    """
    options = resolve_options("delegate_all_tool", DelegateOptions, options)

    async def handler(tasks: Sequence[str]) -> str:
        if not isinstance(tasks, list) or not 0 < len(tasks) <= max_tasks:
            raise ConfigurationError(f"tasks must be a list of 1 to {max_tasks} strings, not {str(tasks)[:100]!r}")
        results = await delegate_all(tasks, session=delegating_session(session), concurrency=concurrency, **options)
        rows = [
            {"task": number, "result": result.text}
            if result.success
            else {"task": number, "error": _failure_text(result)}
            for number, result in enumerate(results)
        ]
        return format_results(
            {}, rows, result_tokens, lambda last_row: "delegate the remaining tasks again, fewer at a time"
        )

    description = f"Have up to {max_tasks} independent tasks done by sub-agents concurrently; returns all results."
    return ToolSpec(name, description, _DELEGATE_ALL_PARAMETERS, handler, options.get("read_only", True))


def llm_map_tool(
    llm_map: LLMMap,
    *,
    name: str = "llm_map",
    directory: str | os.PathLike[str] | None = None,
    max_items: int = MAX_ITEMS,
    result_tokens: int = RESULT_TOKENS,
    **options: Unpack[LLMMapOptions],
) -> ToolSpec:
    """Make a tool with which a model asks the same question about many items.

    `options` are those of `LLMMap.run`, except `order` and `output_path`. The model passes up to `max_items` items as
    a list. With `directory` it may also use JSONL files of any length in that directory, for inputs and results.
    Without `directory` the tool is read-only. Raises `TypeError` for an unknown option.
    """
    options = resolve_options("llm_map_tool", LLMMapOptions, options, set_by_function=("order", "output_path"))

    async def handler(
        prompt_template: str,
        output_schema: dict[str, Any],
        inputs: list[Any] | None = None,
        input_file: str = "",
        output_file: str = "",
    ) -> str:
        run_options: LLMMapOptions = {
            **options,
            "order": "input",
            "output_path": _resolve_file(output_file, directory) if output_file else None,
        }
        run = llm_map.run(
            _resolve_inputs(inputs, input_file, directory, max_items),
            SubstitutionTemplate(prompt_template),
            output_schema,
            **run_options,
        )
        return await collect_map_results(run, output_file, result_tokens)

    description = "Ask a language model the same question about each of many items; returns one JSON value per item."
    parameters = _map_parameters(directory is not None, ["prompt_template", "output_schema"])
    return ToolSpec(name, description, parameters, handler, directory is None)


def agentic_map_tool(
    agentic_map: AgenticMap,
    session: MnesisSession | None = None,
    *,
    name: str = "agentic_map",
    directory: str | os.PathLike[str] | None = None,
    max_items: int = MAX_ITEMS,
    result_tokens: int = RESULT_TOKENS,
    **options: Unpack[AgenticMapOptions],
) -> ToolSpec:
    """Make a tool with which a model gives each of many items to an agent.

    `options` are those of `AgenticMap.run`, except `order`, `output_path`, `output_schema` and `parent`. Agents are
    children of `session`, or of the sub-agent that calls the tool. The tool is read-only if the tools of its agents
    are and there is no `directory`. Otherwise like `llm_map_tool`.
    """
    set_by_tool = ("order", "output_path", "output_schema", "parent", "parent_session_id")
    options = resolve_options("agentic_map_tool", AgenticMapOptions, options, set_by_function=set_by_tool)

    async def handler(
        prompt_template: str,
        output_schema: dict[str, Any] | None = None,
        inputs: list[Any] | None = None,
        input_file: str = "",
        output_file: str = "",
    ) -> str:
        run_options: AgenticMapOptions = {
            **options,
            "output_schema": output_schema or None,
            "parent": delegating_session(session),
            "order": "input",
            "output_path": _resolve_file(output_file, directory) if output_file else None,
        }
        run = agentic_map.run(
            _resolve_inputs(inputs, input_file, directory, max_items),
            SubstitutionTemplate(prompt_template),
            **run_options,
        )
        return await collect_map_results(run, output_file, result_tokens)

    description = "Give each of many items to its own agent, which works until it is done. Returns all results."
    parameters = _map_parameters(directory is not None, ["prompt_template"])
    return ToolSpec(name, description, parameters, handler, options.get("read_only", True) and directory is None)


def map_results_tool(engine: Engine, *, name: str = "map_results", result_tokens: int = RESULT_TOKENS) -> ToolSpec:
    """Make a tool with which a model reads the results of a stored run, page by page."""

    async def handler(run_id: str, after_index: int = -1) -> str:
        await engine.open()
        run = await engine.store.run(run_id)
        items = await engine.store.run_items(run_id, after_index=after_index, limit=PAGE_ITEMS)
        rows = [stored_row(item) for item in items]
        header = {"run_id": run_id, "total": run.item_count, "succeeded": run.done, "failed": run.failed}
        total = len(items) if len(items) < PAGE_ITEMS else run.item_count - after_index - 1
        return format_results(header, rows, result_tokens, continuation_hint(run_id, ""), total=total)

    return ToolSpec(name, "Read results of a map, by its run_id.", _MAP_RESULTS_PARAMETERS, handler, True)


def delegating_session(session: MnesisSession | None) -> MnesisSession | None:
    """Return the session that delegates.

    It is the session of the sub-agent that calls the tool, if it is in the same database; else `session`.
    """
    caller = current_agent()
    if caller is None or session is None or caller.session.engine.path != session.engine.path:
        return session
    return caller.session


def _resolve_inputs(
    inputs: list[Any] | None, input_file: str, directory: str | os.PathLike[str] | None, max_items: int
) -> list[Any] | Path:
    """Return the inputs that a model passed: a list, or a file if files are allowed.

    Exactly one must be given.
    """
    if (inputs is None) == (not input_file):
        raise ConfigurationError("give inputs, a list of items" + (", or input_file" if directory is not None else ""))
    if input_file:
        return _resolve_file(input_file, directory)
    if not isinstance(inputs, list) or not 0 < len(inputs) <= max_items:
        raise ConfigurationError(f"inputs must be a list of 1 to {max_items} items, not {str(inputs)[:100]!r}")
    return inputs


def _resolve_file(name: str, directory: str | os.PathLike[str] | None) -> Path:
    """Return the path of a file that a model named.

    Raises `ConfigurationError` for one outside the directory.
    """
    if directory is None:
        raise ConfigurationError("this tool does not read or write files; give inputs as a list")
    base = Path(directory).expanduser().resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or path.suffix not in JSONL_SUFFIXES:
        raise ConfigurationError(
            f"{name!r} is not a file this tool may use: name one that ends in .jsonl, inside the tool's directory"
        )
    return path


def _map_parameters(allow_files: bool, required: list[str]) -> dict[str, Any]:
    """Return the JSON Schema of a map's arguments."""
    properties: dict[str, Any] = {
        "prompt_template": {
            **_STRING,
            "description": "What is asked about each item: a text with {{ item }}, or {{ item.field }}.",
        },
        "inputs": {"type": "array", "items": {}, "description": "The items: texts, numbers or objects."},
        "output_schema": {"type": "object", "description": "The JSON Schema of each answer."},
    }
    if allow_files:
        properties["input_file"] = {**_STRING, "description": "A JSONL file with an item per line, in place of inputs."}
        properties["output_file"] = {**_STRING, "description": "A JSONL file (name.jsonl) for all results."}
    return {"type": "object", "properties": properties, "required": required if allow_files else [*required, "inputs"]}


def _failure_text(result: DelegateResult) -> str:
    last_text = f" Its last words: {truncate_to_tokens(result.text, ERROR_TEXT_TOKENS)}" if result.text else ""
    return f"the sub-agent failed ({result.error_kind}): {result.error}.{last_text}"
