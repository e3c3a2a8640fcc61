"""The circuit breaker: when calls to a model are suspended, and when they are tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnesis.llm.breaker import MAX_BREAKERS, CircuitBreaker, CircuitBreakers
from mnesis.llm.resolve import resolve
from mnesis.testing import ScriptedLLM


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def make(**fields: float) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    settings = {"max_failures": 3, "open_seconds": 60.0, **fields}
    return CircuitBreaker(clock=clock, **settings), clock  # type: ignore[arg-type]  # numbers by name


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker, _ = make()
    for _ in range(2):
        assert breaker.try_acquire()
        breaker.note_failure()
    breaker.note_success()
    for _ in range(2):
        breaker.note_failure()
    assert breaker.status().state == "closed"
    breaker.note_failure()
    assert not breaker.try_acquire()
    assert (breaker.status().state, breaker.status().retry_after_seconds) == ("open", 60.0)


def test_a_final_failure_opens_it_at_once() -> None:
    breaker, _ = make()
    breaker.note_failure(is_final=True)
    assert not breaker.try_acquire()


def test_after_its_time_one_call_tries_again_and_decides() -> None:
    breaker, clock = make()
    breaker.note_failure(is_final=True)
    clock.seconds += 60
    assert breaker.try_acquire()
    assert breaker.status().state == "half_open"
    assert not breaker.try_acquire(), "only one"
    breaker.note_failure()
    assert breaker.status().state == "open"
    clock.seconds += 59
    assert not breaker.try_acquire()
    clock.seconds += 1
    assert breaker.try_acquire()
    breaker.note_success()
    assert breaker.status().state == "closed"
    assert breaker.try_acquire()


def test_a_try_that_never_reports_does_not_block_it_for_good() -> None:
    breaker, clock = make()
    breaker.note_failure(is_final=True)
    clock.seconds += 60
    assert breaker.try_acquire()
    clock.seconds += 60
    assert breaker.try_acquire()


def test_late_failures_of_calls_in_flight_do_not_prolong_it() -> None:
    breaker, clock = make()
    for _ in range(3):
        breaker.note_failure()
    clock.seconds += 30
    breaker.note_failure()
    assert breaker.status().retry_after_seconds == 30.0


@given(st.lists(st.sampled_from(["call", "success", "failure", "final", "wait"]), max_size=60))
def test_whatever_happens_a_call_is_allowed_once_its_time_is_over(events: list[str]) -> None:
    breaker, clock = make()
    for event in events:
        if event == "call":
            breaker.try_acquire()
        elif event == "success":
            breaker.note_success()
        elif event == "wait":
            clock.seconds += 20
        else:
            breaker.note_failure(is_final=event == "final")
    clock.seconds += 60
    assert breaker.try_acquire()


def summarise(messages: object) -> str:
    return ""


def test_models_endpoints_and_clients_have_breakers_of_their_own() -> None:
    breakers = CircuitBreakers()
    own, other = ScriptedLLM("a"), ScriptedLLM("b")
    found = [
        breakers.find("openai/a", resolve()),
        breakers.find("openai/b", resolve()),
        breakers.find("openai/a", resolve(), "http://localhost:1"),
        breakers.find("openai/a", resolve(own)),
        breakers.find("openai/a", resolve(other)),
        breakers.find("openai/a", resolve(summarise)),
    ]
    assert len({id(breaker) for breaker in found}) == len(found)
    assert breakers.find("openai/a", resolve()) is found[0], "sessions that call one model through litellm share it"
    assert breakers.find("openai/a", resolve(own)) is found[3]
    assert breakers.find("openai/a", resolve(summarise)) is found[5]


def test_settings_apply_to_new_breakers_and_old_ones_are_forgotten() -> None:
    breakers = CircuitBreakers()
    first = breakers.find("m0", resolve(), max_failures=1)
    assert first.max_failures == 1
    for number in range(MAX_BREAKERS):
        breakers.find(f"n{number}", resolve())
    assert breakers.find("m0", resolve()) is not first
