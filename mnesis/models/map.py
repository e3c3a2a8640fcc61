"""What maps over many inputs give back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from mnesis.display.panel import Panel
from mnesis.display.shown import Shown
from mnesis.models.tables import batch_panel
from mnesis.models.usage import TokenUsage


class MapResult(BaseModel):
    """What came of one input.

    `input` is it as a JSON value. `output` is an instance of the pydantic class, or the JSON value; None if there is no
    success. `error_kind` then says why: `timeout`, `validation` (no answer satisfied the schema), `llm_error`, `template`
    (the prompt could not be made of this input), `worker_died` (it ended every process that worked on it). `attempts` are
    the model calls made; `usage` and `cost` (US dollars; 0.0 where unknown) cover all of them. `resumed`: the result was
    stored before, or another process did the work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = 0
    input: Any = None
    output: Any = None
    success: bool
    error: str | None = None
    error_kind: str | None = None
    attempts: int = 1
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    run_id: str = ""
    resumed: bool = False


Result = TypeVar("Result")


class Batch(BaseModel, Shown, Generic[Result]):
    """All results of a run, each list in the order of the inputs. Sums cover every attempt, also those of failed items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    successes: list[Result] = []
    failures: list[Result] = []
    total_attempts: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    run_id: str = ""

    @classmethod
    def of(cls, results: Iterable[Any], run_id: str) -> Self:
        """The batch of these results, which may come in any order."""
        found = sorted(results, key=lambda result: result.index)
        return cls(
            successes=[result for result in found if result.success],
            failures=[result for result in found if not result.success],
            total_attempts=sum(result.attempts for result in found),
            usage=sum((result.usage for result in found), TokenUsage()),
            cost=sum(result.cost for result in found),
            run_id=found[0].run_id if found else run_id,
        )

    @property
    def total(self) -> int:
        """How many inputs there were."""
        return len(self.successes) + len(self.failures)

    @property
    def results(self) -> list[Result]:
        """Successes and failures together, in the order of the inputs."""
        found: list[Any] = [*self.successes, *self.failures]
        return sorted(found, key=lambda result: result.index)

    def _panel(self) -> Panel:
        return batch_panel(type(self).__name__, self, [*self.failures, *self.successes])


class MapBatch(Batch[MapResult]):
    """All results of a run of `LLMMap`."""
