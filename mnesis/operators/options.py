"""Keyword options of maps and agents, each defined once with its type and default.

Functions take them as `**options: Unpack[AgentOptions]` (PEP 692), so editors complete them and type checkers check
them. `resolve_options` refuses unknown names at run time.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel

from mnesis.config import ConfigOrDict, RetryConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.operators.agent_steps import StopCondition
from mnesis.operators.map_progress import ProgressOption
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession

ResultOrder = Literal["completion", "input"]

SYNONYMS = {"timeout_secs": "timeout_seconds", "lcm_config": "config", "parent_session_id": "parent"}
"""Synonyms of options, and the names that they replace."""


class MapOptions(TypedDict, total=False):
    """Options of every map run."""

    concurrency: int | None
    """Items processed at the same time. Default: from `OperatorConfig`."""
    run_id: str | None
    """The name of the run in the database. The same id again returns stored results and processes only what is
    missing. Default: a new id."""
    retry_failed: bool
    """Whether to process the failed items of an earlier run again. Default: False."""
    order: ResultOrder
    """When results are yielded: "input" in the order of the inputs, "completion" as soon as they are ready. Default:
    "input"."""
    progress: ProgressOption
    """True for a progress bar, or a function called as `progress(completed, total)`. Default: False."""
    output_path: str | os.PathLike[str] | None
    """A JSONL file that receives one line per item. It appears when the run is complete. Default: no file."""
    lease_seconds: float
    """How long a worker may fail to renew its leases before other workers take over its items. Default: 30."""
    max_claims: int
    """How many workers may die while they process an item before the item fails. Default: 3."""


class WorkOptions(TypedDict, total=False):
    """Options of a worker that joins a run."""

    concurrency: int | None
    """Items processed at the same time by this worker. Default: that of the process that started the run."""
    progress: ProgressOption
    """True for a progress bar of the whole run, or a function called as `progress(completed, total)`. Default: False."""
    output_schema: type[BaseModel] | Mapping[str, Any] | None
    """The schema of the run. Necessary only if it is a pydantic class whose own code validates answers. Default: the stored
    one."""
    llm_options: Mapping[str, Any] | None
    """Arguments passed on with each model call: keys and headers, which are never stored. Default: the stored
    options."""
    stall_seconds: float
    """How long to wait for inputs if the process that started the run stopped before it added all. Default: 60."""


class AgentWorkOptions(WorkOptions, total=False):
    """Options of a worker that joins a run of agents."""

    tools: Iterable[Any] | None
    """The tools of the run's agents, which are found by name; others are ignored. Default: none."""
    stop: StopCondition | None
    """When an agent is finished. Necessary only if it is a function. Default: the stored texts."""
    config: ConfigOrDict | None
    """The settings of the agents' sessions. Default: the options of the map or the engine."""


class LLMMapOptions(MapOptions, total=False):
    """Options of `LLMMap.run`, `LLMMap.run_all` and `llm_map_tool`."""

    model: str | None
    """A litellm model string. Default: the model of the `LLMMap`."""
    max_retries: int | None
    """The maximum number of repetitions per item, after invalid answers and temporary failures together. Default: from
    `OperatorConfig`."""
    system_prompt: str | None
    """Text that precedes the schema in the system message. Default: none."""
    temperature: float | None
    """The sampling temperature; None uses the provider's default. Default: 0.0."""
    timeout_seconds: float | None
    """The time limit of each model call. Default: 60."""
    timeout_secs: float
    """A synonym of `timeout_seconds`."""
    retry_guidance: str
    """The request to the model after the errors of an invalid answer. Default: a built-in sentence."""
    retry: RetryConfig | Mapping[str, Any] | None
    """The waits after temporary failures; its `max_retries` is not used. Default: `RetryConfig()`."""
    llm_options: Mapping[str, Any] | None
    """Arguments passed on with each model call. Default: none."""


class AgentSettings(TypedDict, total=False):
    """Options of every agent, without the schema of its answer."""

    model: str | None
    """A litellm model string. Default: the model of the map or of the delegating session."""
    tools: Iterable[Any] | None
    """Functions, `ToolSpec`s, or objects with a name, parameters and a handler. Default: none."""
    read_only: bool
    """Whether to offer only tools that are declared read-only. Default: True."""
    max_turns: int
    """The maximum number of turns of an agent. An agent that is not finished after them has failed. Default: 20."""
    continuation_message: str
    """The next message to an unfinished agent. Default: a sentence that fits the reason."""
    stop: StopCondition | None
    """When an agent is finished: a text, or one of several texts, occurs in its answer, or a function of the
    `TurnResult` returns true. Default: when its answer is complete."""
    agent: str
    """The agent name recorded with the session. Default: "general"."""
    system_prompt: str | None
    """The system prompt of the agent. Default: a built-in prompt."""
    max_retries: int | None
    """How often an invalid answer is returned to the agent, and how often a temporary failure of a model call is
    retried. Default: 3, and in maps from `OperatorConfig`."""
    timeout_seconds: float | None
    """The time limit of one agent. Default: none."""
    config: ConfigOrDict | None
    """The settings of the agents' sessions. Default: the settings of the map, the parent session or the engine."""
    db_path: str | os.PathLike[str] | None
    """The database of the agents' sessions, if there is neither a parent session nor an engine. Default: the default
    database."""
    llm_options: Mapping[str, Any] | None
    """Arguments passed on with each model call. Default: none."""
    max_depth: int
    """How many levels of sub-agents may be nested. Code inside a sub-agent cannot raise the limit. Default: 3."""


class AgentOptions(AgentSettings, total=False):
    """Options of every agent, in maps and delegations."""

    output_schema: type[BaseModel] | Mapping[str, Any] | None
    """A pydantic model class or a JSON Schema that the final answer must satisfy. Default: none."""


class AgenticMapSettings(AgentSettings, MapOptions, total=False):
    """Options of a map of agents, without the schema of the answers."""

    parent: MnesisSession | str | None
    """The session whose children the agents' sessions become, or its id. Default: the sub-agent that runs this code,
    if any."""
    parent_session_id: str | None
    """A synonym of `parent`."""
    lcm_config: ConfigOrDict | None
    """A synonym of `config`."""


class AgenticMapOptions(AgenticMapSettings, AgentOptions, total=False):
    """Options of `AgenticMap.run`, `AgenticMap.run_all` and `agentic_map_tool`."""


class DelegateOptions(AgentOptions, total=False):
    """Options of `delegate`, `delegate_all` and their tools."""

    engine: Engine | None
    """The engine whose database holds the sub-agents' sessions. Default: the engine of the delegating session."""
    llm: object | None
    """The model client. Default: the client of the delegating session."""
    grant: Grant | None
    """Lets sub-agents search and read the history of the delegating session. Default: they cannot."""


Options = TypeVar("Options", bound=Mapping[str, Any])


def resolve_options(
    function: str, kind: type[Options], options: Options, *, set_by_function: Collection[str] = ()
) -> Options:
    """Check the names of options and replace synonyms.

    `set_by_function` are options that the function sets itself. Raises `TypeError` for a name that is not in `kind` or
    that the function sets, and `ConfigurationError` if an option and its synonym are both given.
    """
    known_names = set(kind.__annotations__) - set(set_by_function)
    for name in options:
        if name in set_by_function:
            raise TypeError(f"{function}() sets {name!r} itself; leave it out")
        if name not in known_names:
            matches = get_close_matches(name, known_names, n=1)
            hint = f"did you mean {matches[0]!r}?" if matches else f"expected one of: {', '.join(sorted(known_names))}"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}; {hint}")
    return cast(Options, _aliases(options))


def _aliases(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace synonyms with the main names. Raises `ConfigurationError` if both are given."""
    resolved = {name: value for name, value in options.items() if name not in SYNONYMS}
    for synonym, name in SYNONYMS.items():
        if (value := options.get(synonym)) is None:
            continue
        if resolved.get(name) is not None:
            raise ConfigurationError(f"{name} and {synonym} are the same option; pass only one of them")
        resolved[name] = value
    return resolved
