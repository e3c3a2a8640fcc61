"""The arguments for reaching a provider, separate from those of a single call. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = frozenset(
    {
        "api_base", "base_url", "api_key", "api_version", "api_type", "organization", "custom_llm_provider", "deployment_id",
        "extra_headers", "headers", "timeout", "ssl_verify", "region_name", "client",
    }
)  # fmt: skip
_PREFIXES = ("aws_", "azure_", "vertex_", "watsonx_")
"""litellm's arguments for addresses and credentials (docs.litellm.ai, completion/input and each provider's page)."""


def connection_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a call with another purpose may inherit.

    Everything else (reasoning budgets, tools, cache marks, response formats, sampling, limits) belongs to the call it was set
    for.
    """
    return {name: value for name, value in options.items() if name in _NAMES or name.startswith(_PREFIXES)}
