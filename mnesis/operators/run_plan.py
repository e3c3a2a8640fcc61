"""The plan with which a worker on another machine processes the items of a run, as JSON without secrets.

Pure functions, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from mnesis.errors import ConfigurationError
from mnesis.llm.connection import connection_options
from mnesis.operators.inputs import to_json
from mnesis.operators.map_settings import MapSettings
from mnesis.operators.schema import OutputSchema
from mnesis.operators.template import PromptTemplate, SubstitutionTemplate, Template
from mnesis.redaction import redact

VERSION = 1

_ADDRESSES = frozenset({"api_base", "api_version", "api_type", "base_url", "custom_llm_provider", "region_name"})
"""Connection options that locate the model and are not secret."""


def encode_plan(kind: str, facts: Mapping[str, Any], settings: MapSettings) -> str:
    """Return the plan of a run as JSON. Instead of a plan that may contain a secret, the reason is stored."""
    limits = {
        "concurrency": settings.concurrency,
        "lease_seconds": settings.lease_seconds,
        "max_claims": settings.max_claims,
    }
    plan = to_json({"version": VERSION, "kind": kind, **facts, "limits": limits})
    if redact(plan) != plan:
        return to_json({"version": VERSION, "kind": kind, "refusal": "its prompt or options contain a secret"})
    return plan


def decode_plan(run_id: str, kind: str, text: str) -> dict[str, Any]:
    """Return the facts of a plan. Raises `ConfigurationError` if workers cannot join the run, or the run is of another
    kind.
    """
    plan: dict[str, Any] = json.loads(text) if text else {"refusal": "no plan was stored with it"}
    if refusal := plan.get("refusal"):
        raise ConfigurationError(
            f"workers cannot join run {run_id!r}: {refusal}; continue it with the call that started it, which may run in"
            " several processes"
        )
    if plan.get("version") != VERSION or plan.get("kind") != kind:
        raise ConfigurationError(
            f"run {run_id!r} is a run of kind {plan.get('kind')!r}, version {plan.get('version')!r}, not {kind!r}, version"
            f" {VERSION}; use the operator and the release that started it"
        )
    return plan


def storable_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options of model calls that a plan can store, and the names of those that a worker must pass.

    Keys, headers and clients are neither stored nor named: each worker has its own.
    """
    connection = connection_options(options)
    stored: dict[str, Any] = {}
    omitted: list[str] = []
    for name, value in options.items():
        if name in connection and not (name in _ADDRESSES and _is_plain_address(value)):
            continue
        if _is_json(value) and redact(text := to_json({name: value})) == text:
            stored[name] = value
        else:
            omitted.append(name)
    return stored, sorted(omitted)


def merge_options(run_id: str, plan: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a worker's model calls: those of the plan, and its own.

    Raises `ConfigurationError` if an option is missing that the plan could not store.
    """
    missing = [name for name in plan["omitted_options"] if name not in own]
    if missing:
        raise ConfigurationError(
            f"run {run_id!r} uses llm_options that were not stored: {', '.join(missing)}; pass them with llm_options="
        )
    return {**plan["llm_options"], **own}


def encode_template(template: PromptTemplate) -> dict[str, Any]:
    """Return a template as JSON, with its level of trust."""
    return {"source": template.source, "is_substitution": isinstance(template, SubstitutionTemplate)}


def decode_template(facts: Mapping[str, Any]) -> PromptTemplate:
    """Return the template of a plan. A developer's template runs in Jinja's sandbox, as it did in the first process."""
    return (SubstitutionTemplate if facts["is_substitution"] else Template)(facts["source"])


def encode_schema(schema: OutputSchema | None) -> dict[str, Any] | None:
    """Return a schema as JSON, with the name of its class if code of the class takes part in the validation."""
    if schema is None:
        return None
    return {"json_schema": schema.json_schema, "validating_class": schema.validating_class}


def decode_schema(run_id: str, facts: Mapping[str, Any] | None, own: Any) -> OutputSchema | None:
    """Return the schema of a plan, or the worker's own.

    Raises `ConfigurationError` if the worker must pass the class, because its code takes part in the validation.
    """
    if own is not None:
        return OutputSchema(own)
    if facts is None:
        return None
    if facts["validating_class"] is not None:
        raise ConfigurationError(
            f"answers of run {run_id!r} are validated by code of {facts['validating_class']}; pass that class with"
            " output_schema= (in a command, --schema)"
        )
    return OutputSchema(facts["json_schema"])


def select_tools(run_id: str, names: Iterable[str], tools: Mapping[str, Any]) -> list[Any]:
    """Return the tools with these names, in order. Raises `ConfigurationError` if the worker lacks one."""
    names = list(names)
    if missing := [name for name in names if name not in tools]:
        raise ConfigurationError(
            f"agents of run {run_id!r} use tools that this worker does not have: {', '.join(missing)}; pass them with"
            " tools= (in a command, --tools)"
        )
    return [tools[name] for name in names]


def _is_json(value: Any) -> bool:
    """Return whether storing a value as JSON does not change it. The fingerprint of a run depends on this."""
    try:
        return repr(json.loads(json.dumps(value, allow_nan=False))) == repr(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _is_plain_address(value: Any) -> bool:
    """Return False for a URL with a user, a password or parameters."""
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return not (parts.username or parts.password or parts.query)
