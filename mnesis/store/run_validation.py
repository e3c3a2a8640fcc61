"""What every store asks of map runs; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnesis.errors import InvalidMessageError, RunMismatchError
from mnesis.models.run import ItemOutcome, MapRun, RunSpec
from mnesis.models.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Moved:
    """How a transaction changes the counts and sums of a run."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    attempts: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0


def finished(outcomes: Sequence[ItemOutcome]) -> Moved:
    """What outcomes that were accepted change."""
    done = sum(1 for outcome in outcomes if outcome.state == "done")
    return Moved(
        running=-len(outcomes),
        done=done,
        failed=len(outcomes) - done,
        attempts=sum(outcome.attempts for outcome in outcomes),
        usage=sum((outcome.usage for outcome in outcomes), TokenUsage()),
        cost=sum(outcome.cost for outcome in outcomes),
    )


def refuse_other_run(spec: RunSpec, run: MapRun) -> None:
    """Raises `RunMismatchError` if the run of this id is another one."""
    for name in ("kind", "fingerprint"):
        asked, stored = getattr(spec, name), getattr(run, name)
        if asked != stored:
            raise RunMismatchError(
                f"run {run.id!r} is there with another {name} ({stored!r}, not {asked!r}): its results would not be"
                " those asked for. Go on with the same template, schema, model and options, or take another run id",
                run_id=run.id,
            )


def refuse_misplaced(run: MapRun, first_index: int, count: int) -> None:
    """Raises `RunMismatchError` if inputs at this place leave a gap, or are new to a run that has all its inputs."""
    if first_index < 0 or (count and first_index > run.stored):
        raise RunMismatchError(
            f"run {run.id!r} has {run.stored} inputs; others from index {first_index} on would leave a gap",
            run_id=run.id,
        )
    if run.total is not None and first_index + count > run.total:
        raise RunMismatchError(
            f"run {run.id!r} was said to have {run.total} inputs; {first_index + count} are more. Take another run id",
            run_id=run.id,
        )


def refuse_other_inputs(run: MapRun, first_index: int, stored: Sequence[str], inputs: Sequence[str]) -> None:
    """Raises `RunMismatchError` for an input that differs from the one stored at its index."""
    for index, (old, new) in enumerate(zip(stored, inputs, strict=False), first_index):
        if old != new:
            raise RunMismatchError(
                f"input {index} of run {run.id!r} is not the one stored; go on with the same inputs in the same order,"
                " or take another run id",
                run_id=run.id,
            )


def refuse_total(run: MapRun, total: int) -> None:
    """Raises `RunMismatchError` unless exactly `total` inputs are stored and no other total was said."""
    if total != run.stored or run.total not in (None, total):
        raise RunMismatchError(
            f"run {run.id!r} has {run.stored} inputs, {total} were said; go on with the same inputs, or take another"
            " run id",
            run_id=run.id,
        )


def check_spec(spec: RunSpec) -> None:
    """Raises `InvalidMessageError` for a run that cannot be stored."""
    if not spec.id:
        raise InvalidMessageError("the id of a run must not be empty")
    for name in ("id", "kind", "fingerprint", "model"):
        _check_text(getattr(spec, name), f"the {name} of a run")


def check_texts(run_id: str, worker: str, texts: Sequence[str] = ()) -> None:
    """Raises `InvalidMessageError` for a worker or texts that cannot be stored."""
    _check_text(worker, f"the name of a worker of run {run_id!r}")
    for text in texts:
        _check_text(text, f"a text of run {run_id!r}")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessageError(f"{what} holds a lone surrogate, which UTF-8 cannot hold; escape it") from error
