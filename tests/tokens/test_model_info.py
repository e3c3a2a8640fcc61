"""Limits of models: from the cost map where it knows them, cautious where not, the user's word above all."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnesis.config import ModelOverrides
from mnesis.errors import ConfigurationError
from mnesis.tokens import model_info
from mnesis.tokens.model_info import ModelInfo


@pytest.fixture
def _fresh_tables() -> object:
    model_info._limits_tables.cache_clear()
    yield
    model_info._limits_tables.cache_clear()


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [
        ("gpt-4", 8_000, 8_200),
        ("gpt-3.5-turbo", 16_000, 16_400),
        ("gpt-4o", 128_000, 128_000),
        ("openai/gpt-4o-2024-08-06", 128_000, 128_000),
        ("azure/gpt-4o", 128_000, 128_000),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", 128_000, 128_000),
        ("gpt-4.1", 1_000_000, 1_100_000),
        ("gpt-5", 272_000, 400_000),
        ("o4-mini", 200_000, 200_000),
        ("claude-sonnet-4-5", 200_000, 200_000),
        ("anthropic/claude-sonnet-4-5-20250929", 200_000, 1_000_000),
        ("openrouter/anthropic/claude-sonnet-4.5", 200_000, 1_000_000),
        ("gemini/gemini-2.5-pro", 1_000_000, 1_100_000),
        ("ollama/llama3", 8_192, 8_192),
        ("ollama/llama3:8b", 8_192, 8_192),
    ],
)
def test_limits_agree_with_what_is_known_of(model: str, least: int, most: int) -> None:
    info = ModelInfo.from_model_string(model)
    assert info.is_known
    assert least <= info.context_limit <= most
    assert 0 < info.max_output_tokens <= min(32_000, info.context_limit // 4)
    assert info.model_id == model


@pytest.mark.parametrize(
    ("model", "provider"),
    [("openai/gpt-4o", "openai"), ("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"), ("no-such-model", ""),
     ("claude-of-tomorrow", "anthropic"), ("openrouter/anthropic/claude-sonnet-4.5", "openrouter")],
)  # fmt: skip
def test_the_provider_is_the_prefix_or_the_maker_known(model: str, provider: str) -> None:
    assert ModelInfo.from_model_string(model).provider_id == provider


def test_unknown_models_get_cautious_limits_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model_info._warn_unknown.cache_clear()
    with caplog.at_level(logging.WARNING, logger="mnesis"):
        for _ in range(3):
            info = ModelInfo.from_model_string("acme/brand-new-9000")
    assert (info.context_limit, info.max_output_tokens, info.is_known) == (32_768, 4_096, False)
    (record,) = caplog.records
    assert "acme/brand-new-9000" in record.getMessage()
    assert "model_overrides" in record.getMessage()


def test_overrides_are_taken_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    overrides = ModelOverrides(context_limit=1_000_000, max_output_tokens=60_000, encoding="cl100k_base")
    info = ModelInfo.from_model_string("acme/overridden", overrides)
    assert (info.context_limit, info.max_output_tokens) == (1_000_000, 60_000)
    assert (info.encoding, info.is_known) == ("cl100k_base", True)
    assert not caplog.records


def test_a_smaller_window_also_shrinks_the_room_for_answers() -> None:
    info = ModelInfo.from_model_string("gpt-4o", ModelOverrides(context_limit=4_000))
    assert (info.context_limit, info.max_output_tokens) == (4_000, 1_000)


@pytest.mark.parametrize("model", ["gpt-4", "acme/unheard-of"])
def test_answers_that_fill_the_window_are_refused_in_words_that_help(model: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"max_output_tokens \(40,000\).*context_limit \(.*lower max_output_tokens"
    ):
        ModelInfo.from_model_string(model, ModelOverrides(max_output_tokens=40_000))


@pytest.mark.parametrize("model", ["", "   ", "\n"])
def test_a_blank_model_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        ModelInfo.from_model_string(model)


@pytest.mark.usefixtures("_fresh_tables")
@pytest.mark.parametrize(
    "content", [None, "not json", "[]", '{"gpt-4o": {"mode": "chat", "max_input_tokens": "many"}}']
)
def test_without_a_usable_cost_map_every_model_is_unknown(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / model_info._COST_MAP).write_text(content)
    monkeypatch.setattr(model_info, "package_directories", lambda package: [tmp_path])
    assert not ModelInfo.from_model_string("gpt-4o").is_known


@pytest.mark.usefixtures("_fresh_tables")
def test_among_several_providers_of_a_name_the_smallest_window_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = ",".join(
        f'"{key}": {{"mode": "{mode}", "max_input_tokens": {limit}}}'
        for key, mode, limit in [
            ("a/boat-1.5", "chat", 9_000),
            ("b/x/boat-1-5", "chat", 7_000),
            ("boat-1.5", "rerank", 1),
        ]
    )
    (tmp_path / model_info._COST_MAP).write_text(f"{{{entries}}}")
    monkeypatch.setattr(model_info, "package_directories", lambda package: [tmp_path])
    assert ModelInfo.from_model_string("a/boat-1.5").context_limit == 9_000
    assert ModelInfo.from_model_string("c/boat-1.5-20300101").context_limit == 7_000


def test_limits_are_read_without_importing_litellm() -> None:
    code = "import sys; from mnesis.tokens.model_info import ModelInfo; print(ModelInfo.from_model_string('gpt-4').context_limit,"
    code += " 'litellm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.stdout.strip() == "8192 False", done.stderr
