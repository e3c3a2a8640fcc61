"""How reports of usage move the size of the context."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.models.session import MAX_CALIBRATION, SessionRecord, UsageReport, after_append, recount
from mnesis.models.usage import TokenUsage

EMPTY = SessionRecord(id="s", model="m", system_tokens=100, context_tokens=100)


def append(state: SessionRecord, tokens: int, reply: int = 0, report: UsageReport | None = None) -> SessionRecord:
    return after_append(state, message_count=1, tokens=tokens, tool_tokens=0, reply_tokens=reply, report=report)


def inferred(input: int, output: int = 0, **rest: int) -> UsageReport:
    return UsageReport(TokenUsage(input=input, output=output, **rest), "inferred")


def request(input: int, output: int = 0, estimate: int = 0, **rest: int) -> UsageReport:
    return UsageReport(TokenUsage(input=input, output=output, **rest), "request", request_estimate=estimate)


@pytest.mark.parametrize(
    ("usage", "context"),
    [
        (TokenUsage(input=5_000, output=200), 5_200),
        (TokenUsage(input=100, output=200, cache_read=4_000, cache_write=900), 5_200),
        (TokenUsage(input=0, output=200, cache_read=5_000), 5_200),
        (TokenUsage(output=200, total=5_200), 5_200),
    ],
    ids=["plain", "cache reads and writes", "all from the cache", "only a total"],
)
def test_a_known_request_is_the_whole_context_including_cached_tokens(usage: TokenUsage, context: int) -> None:
    state = append(append(EMPTY, 300), 50, 50, UsageReport(usage, "request"))
    assert state.context_tokens == context
    assert state.last_request_tokens == 5_000
    assert state.usage == TokenUsage() + usage


def test_a_second_request_replaces_the_first_instead_of_adding_to_it() -> None:
    state = append(EMPTY, 50, 50, request(5_000, 100))
    state = append(append(state, 20), 50, 50, request(5_200, 100))
    assert state.context_tokens == 5_300
    assert state.usage.effective_total() == 10_400


def test_what_is_appended_without_a_report_is_added_by_its_count() -> None:
    state = append(append(EMPTY, 50, 50, request(5_000, 100)), 70)
    assert state.context_tokens == 5_170


@pytest.mark.parametrize("kind", ["request", "inferred"])
def test_a_report_of_nothing_moves_nothing(kind: str) -> None:
    state = append(EMPTY, 70, 20, UsageReport(TokenUsage(), kind))  # type: ignore[arg-type]  # both kinds
    assert state.context_tokens == 170
    assert state.last_request_tokens is None


def test_an_estimate_is_lifetime_usage_and_no_measurement() -> None:
    state = append(EMPTY, 70, 20, UsageReport(TokenUsage(input=9_000, output=20), "estimate"))
    assert state.context_tokens == 170
    assert state.usage.input == 9_000
    assert state.last_request_tokens is None


FIRST = [
    # Stored before: 100 of system prompt; the turn adds 60 asked and 40 answered. Half the estimated window is 80.
    pytest.param(inferred(80, 40), 200, id="half the window: a whole request, the counts are the floor"),
    pytest.param(inferred(5_000, 40), 5_040, id="more than the window: a whole request"),
    pytest.param(inferred(79, 40), 219, id="less than half: this turn alone, the context grows"),
    pytest.param(inferred(5, 3), 200, id="tiny numbers: the counts are the floor"),
    pytest.param(inferred(0, 40, cache_read=5_000), 5_040, id="whole request from the cache"),
]


@pytest.mark.parametrize(("report", "context"), FIRST)
def test_the_first_inferred_report_is_whole_when_it_is_half_the_window(report: UsageReport, context: int) -> None:
    assert append(EMPTY, 100, 40, report).context_tokens == context


def test_later_reports_are_whole_while_their_input_grows() -> None:
    state = append(EMPTY, 100, 40, inferred(4_000, 40))
    state = append(state, 100, 40, inferred(4_100, 40))
    assert state.context_tokens == 4_140
    state = append(state, 100, 40, inferred(4_100, 40))
    assert state.context_tokens == 4_140 + 4_140, "not larger than before: it describes the turn alone"


def test_reports_of_single_turns_add_up() -> None:
    state = replace(EMPTY, message_tokens=10_000, context_tokens=10_100)
    for _ in range(10):
        state = append(state, 100, 40, inferred(60, 40))
    assert state.context_tokens == 11_100


def test_reports_of_whole_requests_do_not_add_up() -> None:
    state = EMPTY
    for turn in range(1, 41):
        state = append(state, 25, 10, inferred(4_000 + 25 * turn, 10))
    assert state.context_tokens == 5_010


def test_after_a_fold_the_context_is_counted_again() -> None:
    state = append(replace(EMPTY, message_tokens=400), 100, 40, inferred(90_000, 40))
    state = recount(replace(state, message_tokens=50, summary_tokens=20))
    assert state.context_tokens == state.stored_tokens == 170
    assert state.last_request_tokens is None
    assert append(state, 100, 40, inferred(300, 40)).context_tokens == 340
    assert state.usage.input == 90_000, "lifetime usage is kept apart"


def test_calibration_is_never_less_than_one() -> None:
    assert append(EMPTY, 0, 0, request(1_500, estimate=1_000)).calibration == 1.5
    assert append(EMPTY, 0, 0, request(800, estimate=1_000)).calibration == 1.0
    assert append(EMPTY, 0, 0, request(90_000, estimate=1_000)).calibration == MAX_CALIBRATION
    assert append(EMPTY, 0, 0, request(400, estimate=100)).calibration == 1.0, "too small to tell"
    assert append(EMPTY, 0, 0, inferred(1_500)).calibration == 1.0


numbers = st.integers(0, 200_000)
reports = st.none() | st.builds(
    UsageReport,
    st.builds(TokenUsage, input=numbers, output=numbers, cache_read=numbers, cache_write=numbers, total=numbers),
    st.sampled_from(["request", "inferred", "estimate"]),
    request_estimate=numbers,
)
steps = st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 50_000), reports, st.booleans()), max_size=12)


@given(steps)
def test_the_context_is_never_below_the_stored_counts(steps: list[tuple[int, int, UsageReport | None, bool]]) -> None:
    state, total = EMPTY, TokenUsage()
    for asked, replied, report, fold in steps:
        state = append(state, asked + replied, replied, report)
        total = total + report.usage if report else total
        assert state.context_tokens >= state.stored_tokens
        assert 1.0 <= state.calibration <= MAX_CALIBRATION
        if fold:
            state = recount(replace(state, message_tokens=state.message_tokens // 3))
            assert state.context_tokens == state.stored_tokens
    assert state.usage.effective_total() == total.effective_total()


def test_tool_definitions_of_a_request_are_not_context() -> None:
    report = UsageReport(
        TokenUsage(input=50_000, output=100), "request", request_estimate=50_000, reserved_tokens=46_000
    )
    state = append(append(EMPTY, 3_900), 100, 100, report)
    assert state.context_tokens == 50_000 - 46_000 + 100


def test_tool_definitions_are_scaled_like_the_rest_of_the_request() -> None:
    report = UsageReport(TokenUsage(input=15_000), "request", request_estimate=10_000, reserved_tokens=4_000)
    state = append(append(EMPTY, 5_900), 0, 0, report)
    assert state.calibration == pytest.approx(1.5)
    assert state.context_tokens == 15_000 - 6_000


def test_reasoning_that_is_not_sent_back_is_not_context() -> None:
    usage = TokenUsage(input=1_000, output=60_200, reasoning=60_000)
    state = append(EMPTY, 200, 200, UsageReport(usage, "request", discarded_output_tokens=60_000))
    assert state.context_tokens == 1_200
    assert state.usage.output == 60_200


def test_a_report_from_before_a_fold_does_not_replace_the_folded_size() -> None:
    before = append(EMPTY, 6_000)
    folded = recount(replace(before, message_tokens=1_000, summary_tokens=500))
    report = UsageReport(
        TokenUsage(input=6_200, output=50), "request", request_estimate=6_100, fold_count=before.fold_count
    )
    state = append(folded, 60, 60, report)
    assert state.context_tokens == folded.context_tokens + 60
    assert state.last_request_tokens is None
    assert state.usage.input == 6_200


def test_a_report_of_the_newest_context_replaces_the_count() -> None:
    before = append(EMPTY, 6_000)
    report = UsageReport(TokenUsage(input=6_200, output=50), "request", fold_count=before.fold_count)
    assert append(before, 60, 60, report).context_tokens == 6_250


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_stale_report_is_known_whatever_the_fold_left(message_tokens: int, summary_tokens: int) -> None:
    before = append(EMPTY, 3_000)
    folded = recount(replace(before, message_tokens=message_tokens, summary_tokens=summary_tokens))
    report = UsageReport(TokenUsage(input=90_000, output=50), "request", fold_count=before.fold_count)
    state = append(append(folded, 4_000), 60, 60, report)
    assert state.context_tokens == folded.context_tokens + 4_060
    assert state.last_request_tokens is None
