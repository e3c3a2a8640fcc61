"""The cost of calls by litellm's list of prices, which is read as a file from its wheel. litellm is not imported."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from mnesis.models.usage import TokenUsage

_FILE_NAME = "model_prices_and_context_window_backup.json"


def compute_cost(model: str, usage: TokenUsage) -> float:
    """Return the cost of a call in US dollars, 0.0 if the price of the model is not known."""
    entry = _find_entry(model)
    input_price = _price(entry, "input_cost_per_token", 0.0)
    return (
        usage.input * input_price
        + usage.cache_read * _price(entry, "cache_read_input_token_cost", input_price)
        + usage.cache_write * _price(entry, "cache_creation_input_token_cost", input_price)
        + usage.output * _price(entry, "output_cost_per_token", 0.0)
    )


def _find_entry(model: str) -> dict[str, Any]:
    prices = load_prices()
    names = (model, model.split("/", 1)[-1])
    return next((entry for name in names if isinstance(entry := prices.get(name), dict)), {})


def _price(entry: dict[str, Any], name: str, default: float) -> float:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else default


@cache
def load_prices() -> dict[str, Any]:
    """Return the prices by model, empty if there is no list. Reads a file at its first call."""
    try:
        spec = importlib.util.find_spec("litellm")
        directories = (spec.submodule_search_locations or ()) if spec else ()
        return dict(json.loads((Path(next(iter(directories))) / _FILE_NAME).read_bytes()))
    except (ImportError, OSError, ValueError, StopIteration):
        return {}
