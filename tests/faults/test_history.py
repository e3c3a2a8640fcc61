"""The history checker sees every kind of violation, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnesis.testing.history import History, find_violations


def history(*attempts: tuple[tuple[str, ...], bool, bool]) -> History:
    made = History()
    for texts, atomic, acknowledged in attempts:
        made.attempt("s", *texts, atomic=atomic).acknowledged = acknowledged
    return made


ONE = (("q1", "a1"), True, True)
OPEN = (("q2", "a2"), True, False)
PARTIAL = (("q3", "t3", "a3"), False, False)


def kinds(made: History, *log: str) -> list[str]:
    return [
        violation.split(":")[0].split(" is stored")[-1].strip() for violation in find_violations(made, {"s": list(log)})
    ]


def test_histories_that_keep_the_promises_have_no_violation() -> None:
    made = history(ONE, OPEN, PARTIAL)
    for tail in ((), ("q3",), ("q3", "t3"), ("q3", "t3", "a3")):
        assert kinds(made, "q1", "a1", *tail) == []
        assert kinds(made, "q1", "a1", "q2", "a2", *tail) == []
    assert kinds(made, "q1", "other", "a1") == []
    assert find_violations(history(OPEN), {}) == []


def test_each_broken_promise_is_a_violation() -> None:
    made = history(ONE, OPEN, PARTIAL)
    assert kinds(made) == ["acknowledged, but lost"]
    assert kinds(made, "q1") == ["acknowledged, but lost"]
    assert kinds(made, "q1", "a1", "a1") == ["2 times"]
    assert kinds(made, "a1", "q1") == ["out of order"]
    assert kinds(made, "q1", "a1", "q2") == ["stored in part"]
    assert kinds(made, "q1", "a1", "a2") == ["stored in part"]
    assert kinds(made, "q2", "a2", "q1", "a1") == ["out of order"]
    assert kinds(made, "q1", "a1", "t3") == ["stored in part"]
    assert find_violations(history(ONE), {"t": ["q1", "a1"]}) == ["acknowledged, but lost: ['q1', 'a1']"]


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=8))
def test_any_log_that_a_correct_store_can_leave_is_accepted(calls: list[tuple[int, bool, int]]) -> None:
    made, log = History(), []
    for number, (count, atomic, stored) in enumerate(calls):
        texts = [f"{number}-{i}" for i in range(count)]
        attempt = made.attempt("s", *texts, atomic=atomic)
        stored = min(stored, count) if not atomic else (count if stored else 0)
        log += texts[:stored]
        attempt.acknowledged = stored == count
    assert find_violations(made, {"s": log}) == []
