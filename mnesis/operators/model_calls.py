"""Model calls of both maps: their options, and the errors that end a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from mnesis.errors import ConfigurationError, LLMAuthenticationError, LLMError, NoModelError
from mnesis.llm.connection import connection_options


def check_llm_options(llm_options: object) -> dict[str, Any]:
    """Copy the options of model calls into a dict.

    Raises `ConfigurationError` if they are not a mapping.
    """
    if not isinstance(llm_options, Mapping | None):
        raise ConfigurationError(
            f"llm_options must be a dict of arguments for the model call, not {type(llm_options).__name__}"
        )
    return dict(llm_options or {})


def without_connection(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that affect the answers of the model, without those for reaching it. A run may continue with
    other values of the latter.
    """
    connection = connection_options(options)
    return {name: value for name, value in options.items() if name not in connection}


def fails_every_item(error: LLMError) -> bool:
    """Return whether the error concerns every item: a wrong API key or an unknown model."""
    return isinstance(error, LLMAuthenticationError | NoModelError) or error.status_code == HTTPStatus.NOT_FOUND
