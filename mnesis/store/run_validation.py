"""The validation of map runs, shared by all stores. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnesis.errors import InvalidMessageError, RunMismatchError
from mnesis.models.run import ItemOutcome, MapRun, RunSpec
from mnesis.models.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class RunDelta:
    """The change of a run's counts and sums in one transaction."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    attempts: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0


def completion_delta(outcomes: Sequence[ItemOutcome]) -> RunDelta:
    """Return the change of the run by accepted outcomes."""
    done = sum(1 for outcome in outcomes if outcome.state == "done")
    return RunDelta(
        running=-len(outcomes),
        done=done,
        failed=len(outcomes) - done,
        attempts=sum(outcome.attempts for outcome in outcomes),
        usage=sum((outcome.usage for outcome in outcomes), TokenUsage()),
        cost=sum(outcome.cost for outcome in outcomes),
    )


def refuse_other_run(spec: RunSpec, run: MapRun) -> None:
    """Raise `RunMismatchError` if the existing run has another kind or fingerprint than `spec`."""
    for name in ("kind", "fingerprint"):
        requested, stored = getattr(spec, name), getattr(run, name)
        if requested != stored:
            raise RunMismatchError(
                f"run {run.id!r} exists with another {name} ({stored!r}, not {requested!r}), so its results would not be"
                " the requested ones; continue with the same template, schema, model and options, or use another run id",
                run_id=run.id,
            )


def refuse_misplaced_inputs(run: MapRun, first_index: int, count: int) -> None:
    """Raise `RunMismatchError` if inputs at this index would leave a gap or exceed the declared total."""
    if first_index < 0 or (count and first_index > run.item_count):
        raise RunMismatchError(
            f"run {run.id!r} has {run.item_count} inputs, and inputs from index {first_index} on would leave a gap;"
            " add inputs in order",
            run_id=run.id,
        )
    if run.total is not None and first_index + count > run.total:
        raise RunMismatchError(
            f"run {run.id!r} was declared with {run.total} inputs, not {first_index + count}; use another run id",
            run_id=run.id,
        )


def refuse_changed_inputs(run: MapRun, first_index: int, stored: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise `RunMismatchError` if an input differs from the one stored at its index."""
    for index, (old, new) in enumerate(zip(stored, inputs, strict=False), first_index):
        if old != new:
            raise RunMismatchError(
                f"input {index} of run {run.id!r} differs from the stored one; continue with the same inputs in the same"
                " order, or use another run id",
                run_id=run.id,
            )


def refuse_wrong_total(run: MapRun, total: int) -> None:
    """Raise `RunMismatchError` unless exactly `total` inputs are stored and no other total was declared."""
    if total != run.item_count or run.total not in (None, total):
        raise RunMismatchError(
            f"run {run.id!r} has {run.item_count} inputs, not {total}; continue with the same inputs, or use another run"
            " id",
            run_id=run.id,
        )


def check_spec(spec: RunSpec) -> None:
    """Raise `InvalidMessageError` if a run cannot be stored."""
    if not spec.id:
        raise InvalidMessageError("the id of a run must not be empty")
    for name in ("id", "kind", "fingerprint", "model", "plan"):
        _check_text(getattr(spec, name), f"the {name} of a run")


def check_texts(run_id: str, worker: str, texts: Sequence[str] = ()) -> None:
    """Raise `InvalidMessageError` if a worker id or a text cannot be stored."""
    _check_text(worker, f"the name of a worker of run {run_id!r}")
    for text in texts:
        _check_text(text, f"a text of run {run_id!r}")


def _check_text(text: str, description: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessageError(
            f"{description} contains a lone surrogate, which UTF-8 cannot encode; escape it"
        ) from error
