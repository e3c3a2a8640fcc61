"""Limits of models: context limit, output limit and encoding.

The figures come from the cost map in litellm's wheel, which is read as a file. litellm is not imported, and nothing is
downloaded.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from pydantic import BaseModel, ConfigDict

from mnesis.config import ModelOverrides
from mnesis.errors import ConfigurationError
from mnesis.models.dialects import check_name, find_dialect, match_dialect
from mnesis.models.session import MOCK_MODEL, NO_MODEL
from mnesis.redaction import get_logger
from mnesis.tokens.encodings import EncodingName, encoding_for_model, package_directories

logger = get_logger(__name__)

UNKNOWN_CONTEXT_LIMIT = 32_768
UNKNOWN_MAX_OUTPUT_TOKENS = 4_096
"""The context limit, in tokens, that is assumed for models missing in the cost map."""

MAX_RESERVED_OUTPUT_TOKENS = 32_000
"""The largest reserve for an answer. No answer needs more, and the conversation cannot use the reserve."""

_COST_MAP = "model_prices_and_context_window_backup.json"
_TEXT_MODES = ("chat", "completion", "responses", None)
_SUFFIX = re.compile(r"(?:[:@].*|-v\d+(?::\d+)?|-\d{8}|-\d{4}-\d{2}-\d{2}|-latest)$")
_FINE_TUNED = re.compile(r"^ft:|(?<=/)ft:")
_VENDOR = re.compile(r"^(?:[a-z][a-z-]*\.)+(?=[a-z])")
# Published limits (context, output, provider) of models that the cost map no longer lists but users still name.
_RETIRED = {
    "gemini-1-5-pro": (2_097_152, 8_192, "gemini"),
    "gemini-1-5-flash": (1_048_576, 8_192, "gemini"),
    "claude-3-opus": (200_000, 4_096, "anthropic"),
    "claude-3-5-sonnet": (200_000, 8_192, "anthropic"),
    "claude-3-sonnet": (200_000, 4_096, "anthropic"),
}
_PROVIDERS = {"o200k_base": "openai", "cl100k_base": "openai", "claude_heuristic": "anthropic"}


class ModelInfo(BaseModel):
    """Limits of a model, in the model's own tokens.

    `context_limit` is the largest request. `max_output_tokens` is reserved and requested for each answer; unless
    overridden, it is at most 32,000 and at most a quarter of the context limit, even if the model can write more.
    `is_known` is False if the limits are a cautious guess. `provider_id` is "" if the provider is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_id: str
    provider_id: str = ""
    context_limit: int = UNKNOWN_CONTEXT_LIMIT
    max_output_tokens: int = UNKNOWN_MAX_OUTPUT_TOKENS
    encoding: EncodingName = "unknown"
    is_known: bool = False
    dialect: str | None = None
    """The name of the dialect that `ModelOverrides` asks for. None means the model string decides."""

    @classmethod
    def from_model_string(cls, model: str, overrides: ModelOverrides | None = None) -> ModelInfo:
        """Look up the limits of `model`, a model string of litellm. `overrides` take precedence.

        Raises `ConfigurationError` if the model string is blank, if there is no such dialect, or if the overrides leave
        no tokens for a request.
        """
        model = model.strip()
        if not model:
            raise ConfigurationError("the model string is empty; pass one such as 'openai/gpt-4o' or 'ollama/llama3'")
        overrides = overrides or ModelOverrides()
        limits = _find_limits(model)
        if limits is None and overrides.context_limit is None and model not in (NO_MODEL, MOCK_MODEL):
            _warn_unknown(model)
        context_limit = overrides.context_limit or (limits.context if limits else UNKNOWN_CONTEXT_LIMIT)
        info = cls(
            model_id=model,
            provider_id=_provider(model),
            context_limit=context_limit,
            max_output_tokens=overrides.max_output_tokens or _output_reserve(limits, context_limit),
            encoding=overrides.encoding or encoding_for_model(model),
            is_known=limits is not None or overrides.context_limit is not None,
            dialect=_check_dialect(overrides.dialect),
        )
        _check_output_limit(info, overrides)
        return info


def output_limit_tokens(model: str) -> int:
    """Return the largest answer, in tokens, that is requested from a model. Unlike `ModelInfo`, it does not warn about
    unknown models.
    """
    limits = _find_limits(model)
    return _output_reserve(limits, limits.context if limits else UNKNOWN_CONTEXT_LIMIT)


def price_ratio(model: str, other: str) -> float | None:
    """Return the price of an input token of `model`, divided by that of `other`. None if a price is not known."""
    if model == other:
        return 1.0
    prices = [limits.input_price if limits else None for limits in (_listed_limits(model), _listed_limits(other))]
    return prices[0] / prices[1] if prices[0] is not None and prices[1] else None


def context_limit_options(model: ModelInfo | str) -> dict[str, Any]:
    """Return the argument with the length of requests, for servers that would otherwise cut them. Often empty.

    Ollama drops the beginning of what exceeds its `num_ctx`, without an error (github.com/ollama/ollama/issues/10980).
    """
    if isinstance(model, str):
        dialect = match_dialect(model)
        if dialect is None or dialect.context_limit_argument is None:
            return {}
        model = ModelInfo.from_model_string(model)
    dialect = find_dialect(model.model_id, model.dialect) if model.dialect else match_dialect(model.model_id)
    argument = dialect.context_limit_argument if dialect else None
    return {argument: model.context_limit} if argument else {}


async def find_model_info(model: str, overrides: ModelOverrides | None = None) -> ModelInfo:
    """Look up the limits of `model` like `ModelInfo.from_model_string`, and read the cost map in a thread if needed."""
    if not _limits_tables.cache_info().currsize:
        await to_thread.run_sync(_limits_tables)
    return ModelInfo.from_model_string(model, overrides)


def _check_dialect(name: str | None) -> str | None:
    try:
        return name if name is None else check_name(name)
    except ValueError as error:
        raise ConfigurationError(f"model_overrides.dialect: {error}") from error


@dataclass(frozen=True, slots=True)
class _Limits:
    context: int
    output: int
    provider: str
    input_price: float | None = None
    """US dollars per input token."""


def _provider(model: str) -> str:
    if "/" in model:
        return model.split("/", 1)[0]
    limits = _listed_limits(model)
    return limits.provider if limits else _PROVIDERS.get(encoding_for_model(model), "")


def _output_reserve(limits: _Limits | None, context_limit: int) -> int:
    model_output_tokens = limits.output if limits else UNKNOWN_MAX_OUTPUT_TOKENS
    return max(1, min(model_output_tokens, MAX_RESERVED_OUTPUT_TOKENS, context_limit // 4))


def _check_output_limit(info: ModelInfo, overrides: ModelOverrides) -> None:
    if info.max_output_tokens < info.context_limit:
        return
    source = "model_overrides" if overrides.context_limit is not None else f"the limit of {info.model_id}"
    raise ConfigurationError(
        f"model_overrides.max_output_tokens ({info.max_output_tokens:,}) must be below context_limit"
        f" ({info.context_limit:,}, from {source}), or no tokens are left for the request; lower max_output_tokens, or raise"
        " model_overrides.context_limit"
    )


@functools.cache
def _warn_unknown(model: str) -> None:
    logger.warning(
        "the limits of model %r are not known; assuming a context limit of %s tokens and answers of up to %s;"
        " set MnesisConfig.model_overrides (context_limit, max_output_tokens) to its true limits",
        model,
        f"{UNKNOWN_CONTEXT_LIMIT:,}",
        f"{UNKNOWN_MAX_OUTPUT_TOKENS:,}",
    )


def _find_limits(model: str) -> _Limits | None:
    return _listed_limits(model) or _limits_tables()[1].get(_bare_name(model))


def _listed_limits(model: str) -> _Limits | None:
    exact, _ = _limits_tables()
    return next((exact[name] for name in _candidates(model) if name in exact), None)


def _candidates(model: str) -> Iterator[str]:
    """Yield the names that `model` may have in the cost map, most specific first."""
    segments = _base_model(model).split("/")
    paths = ["/".join(segments[start:]) for start in range(len(segments))]
    if len(segments) > 2:
        paths.insert(1, f"{segments[0]}/{segments[-1]}")
    yield from paths
    yield from (_without_suffixes(path) for path in paths)


def _base_model(model: str) -> str:
    """Return the name in lower case and without `ft:`.

    A fine-tuned model (`ft:gpt-4o:acme::x`) has the limits of its base model.
    """
    return _FINE_TUNED.sub("", model.lower())


def _bare_name(model: str) -> str:
    """Return the name without provider, region, vendor, version, tag and date.

    `4.5` is written `4-5`.
    """
    name = _without_suffixes(_base_model(model).rsplit("/", 1)[-1])
    return _VENDOR.sub("", name).replace(".", "-")


def _without_suffixes(name: str) -> str:
    shorter = _SUFFIX.sub("", name)
    return name if shorter in ("", name) else _without_suffixes(shorter)


@functools.cache
def _limits_tables() -> tuple[dict[str, _Limits], dict[str, _Limits]]:
    """Return the limits by full name and by bare name.

    For a bare name, they are the smallest of any provider.
    """
    exact: dict[str, _Limits] = {}
    by_name: dict[str, _Limits] = {}
    for key, entry in _cost_map().items():
        limits = _parse_limits(entry)
        if limits is None:
            continue
        exact.setdefault(key.lower(), limits)
        name = _bare_name(key)
        by_name[name] = min(by_name.get(name, limits), limits, key=lambda each: each.context)
    for name, (context, output, provider) in _RETIRED.items():
        by_name.setdefault(name, _Limits(context, output, provider))
    return exact, by_name


def _cost_map() -> dict[str, Any]:
    for directory in package_directories("litellm"):
        try:
            data = json.loads((directory / _COST_MAP).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(data, dict):
            return data
    logger.warning("the limits of models are not known: litellm is installed without a readable %s", _COST_MAP)
    return {}


def _parse_limits(entry: Any) -> _Limits | None:
    if not isinstance(entry, dict) or entry.get("mode") not in _TEXT_MODES:
        return None
    context = _positive(entry.get("max_input_tokens")) or _positive(entry.get("max_tokens"))
    if context is None:
        return None
    output = _positive(entry.get("max_output_tokens")) or UNKNOWN_MAX_OUTPUT_TOKENS
    price = entry.get("input_cost_per_token")
    provider = str(entry.get("litellm_provider") or "")
    return _Limits(context, output, provider, float(price) if isinstance(price, int | float) else None)


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value >= 1 else None
