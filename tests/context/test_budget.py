"""From a model's limits to the marks that drive everything."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.compaction.policy import urgency
from mnesis.config import CompactionConfig
from mnesis.context.budget import SmallModelWarning, make_budget
from mnesis.errors import ConfigurationError
from mnesis.tokens.model_info import ModelInfo


def model(context_limit: int, max_output_tokens: int) -> ModelInfo:
    return ModelInfo(model_id="openai/test", context_limit=context_limit, max_output_tokens=max_output_tokens)


def test_usable_tokens_are_what_output_and_headroom_leave() -> None:
    config = CompactionConfig(soft_threshold_fraction=0.5, low_water_fraction=0.2, summary_fraction=0.25)
    budget = make_budget(model(200_000, 32_000), config, 1_000)
    assert budget.usable_tokens == 200_000 - 32_000 - 20_000
    assert budget.max_output_tokens == 32_000
    assert budget.soft_tokens == 74_000
    assert budget.low_water_tokens == 1_000 + 29_600
    assert budget.summary_tokens == 7_400


@pytest.mark.parametrize(("limit", "output"), [(8_192, 1_024), (8_192, 8_000), (4_096, 4_000), (32_768, 16_000)])
def test_a_small_model_gets_smaller_reserves_and_a_warning(limit: int, output: int) -> None:
    with pytest.warns(SmallModelWarning, match=r"compaction_output_budget=20,000.*lower compaction_output_budget"):
        budget = make_budget(model(limit, output), CompactionConfig(), 20)
    assert budget.usable_tokens >= limit // 2
    assert budget.usable_tokens + budget.max_output_tokens <= limit


def test_the_largest_headroom_still_leaves_room_for_messages() -> None:
    with pytest.warns(SmallModelWarning):
        budget = make_budget(model(200_000, 32_000), CompactionConfig(compaction_output_budget=200_000), 20)
    assert budget.usable_tokens > 100_000


def test_unreachable_thresholds_are_refused_with_field_and_remedy() -> None:
    config = CompactionConfig(low_water_fraction=0.15, soft_threshold_fraction=0.6)
    with pytest.raises(ConfigurationError) as refused:
        make_budget(model(200_000, 32_000), config, 100_000)
    text = str(refused.value)
    for expected in (
        "100,000",
        "low_water_fraction=0.15",
        "soft_threshold_fraction=0.6",
        "148,000",
        "shorten the system",
    ):
        assert expected in text


@given(
    st.integers(256, 2_000_000),
    st.floats(0.001, 0.99),
    st.integers(1_000, 200_000),
    st.floats(0.1, 0.95),
    st.floats(0.02, 0.9),
    st.integers(0, 5_000),
)
def test_marks_are_in_order_or_refused(
    limit: int, output_share: float, headroom: int, soft: float, low: float, system_tokens: int
) -> None:
    try:
        config = CompactionConfig(
            compaction_output_budget=headroom, soft_threshold_fraction=soft, low_water_fraction=low
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmallModelWarning)
            budget = make_budget(model(limit, max(int(limit * output_share), 1)), config, system_tokens)
    except ValueError:
        return
    assert 0 < budget.low_water_tokens < budget.soft_tokens <= budget.usable_tokens
    assert budget.usable_tokens + budget.max_output_tokens <= limit
    assert 0 <= budget.summary_tokens <= budget.low_water_tokens
    assert urgency(budget.soft_tokens - 1, budget) == "none"
    assert urgency(budget.soft_tokens, budget) in ("soft", "hard")
    assert urgency(budget.usable_tokens, budget) == "hard"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low_water_fraction": 0.7}, ["low_water_fraction (0.7)", "soft_threshold_fraction (0.6)", "lower the first"]),
        (
            {"prune_minimum_tokens": 50_000},
            ["prune_minimum_tokens (50,000)", "prune_protect_tokens", "lower the first"],
        ),
        ({"soft_threshold_fraction": 1.5}, ["soft_threshold_fraction", "1.5", "0.95"]),
        ({"compaction_output_budget": -1}, ["compaction_output_budget", "-1", "1000"]),
        ({"soft_treshold_fraction": 0.5}, ["soft_treshold_fraction", "soft_threshold_fraction"]),
        ({"max_compaction_rounds": "many"}, ["max_compaction_rounds", "many"]),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name_value_and_remedy(fields: dict[str, object], words: list[str]) -> None:  # fmt: skip
    with pytest.raises(ValueError) as refused:
        CompactionConfig(**fields)  # type: ignore[arg-type]  # wrong on purpose
    for word in words:
        assert word in str(refused.value)


@pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
@given(st.integers(1_000, 300_000), st.integers(1, 20_000), st.integers(256, 64_000), st.integers(1_000, 40_000))
def test_a_larger_window_never_leaves_less_for_the_conversation(
    limit: int, more: int, output_tokens: int, headroom_tokens: int
) -> None:
    config = CompactionConfig(compaction_output_budget=headroom_tokens)
    smaller, larger = (make_budget(model(size, output_tokens), config, 0) for size in (limit, limit + more))
    assert smaller.usable_tokens <= larger.usable_tokens


@given(st.integers(0, 100_000), st.integers(0, 40_000))
def test_tools_leave_the_thresholds_in_order(reserved_tokens: int, system_tokens: int) -> None:
    budget = make_budget(model(128_000, 16_384), CompactionConfig(), system_tokens).after_reserving(reserved_tokens)
    assert 0 < budget.soft_tokens <= budget.usable_tokens
    assert budget.summary_tokens <= budget.low_water_tokens <= budget.soft_tokens


@given(st.integers(0, 50_000), st.integers(0, 40_000))
def test_tools_never_shrink_the_system_prompt(reserved_tokens: int, system_tokens: int) -> None:
    whole = make_budget(model(128_000, 16_384), CompactionConfig(), system_tokens)
    left = whole.after_reserving(reserved_tokens)
    conversation = (whole.usable_tokens - system_tokens, left.usable_tokens - system_tokens)
    for name in ("soft_tokens", "low_water_tokens"):
        before, after = (getattr(budget, name) - system_tokens for budget in (whole, left))
        assert after == pytest.approx(before * conversation[1] / conversation[0], abs=1)


def test_the_default_window_of_unknown_models_leaves_most_of_it() -> None:
    with pytest.warns(SmallModelWarning):
        small, default = (make_budget(model(limit, limit // 4), CompactionConfig(), 0) for limit in (28_000, 32_768))
    assert small.usable_tokens < default.usable_tokens
    assert default.usable_tokens == 32_768 - 12_288
