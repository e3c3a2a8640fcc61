"""The results of maps over many inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Self

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar  # with defaults (PEP 696)

from mnesis.display.displayable import Displayable
from mnesis.display.panel import Panel
from mnesis.models.tables import batch_panel
from mnesis.models.usage import TokenUsage

Output = TypeVar("Output", default=Any)


class MapResult(BaseModel, Generic[Output]):
    """The result of one input.

    `input` is the input as a JSON value. `output` is an instance of the pydantic class or a JSON value. Check `success`
    first: a failure has the output None, which the type leaves out. `error_kind` is then `timeout`, `validation` (no
    answer satisfied the schema), `llm_error`, `template` (the prompt could not be rendered for this input) or
    `worker_died` (it ended every process that worked on it). `attempts` counts the model calls; `usage` and `cost` (US
    dollars, 0.0 if unknown) cover all of them. `resumed` is True if the result was stored earlier, or if another
    process did the work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = 0
    input: Any = None
    output: Output = None  # type: ignore[assignment]
    success: bool
    error: str | None = None
    error_kind: str | None = None
    attempts: int = 1
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    run_id: str = ""
    resumed: bool = False


Result = TypeVar("Result")


class Batch(BaseModel, Displayable, Generic[Result]):
    """All results of a run, each list in input order. Sums cover every attempt, including those of failed items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    successes: list[Result] = []
    failures: list[Result] = []
    total_attempts: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    run_id: str = ""

    @classmethod
    def of(cls, results: Iterable[Any], run_id: str) -> Self:
        """Build a batch from results in any order."""
        ordered = sorted(results, key=lambda result: result.index)
        return cls(
            successes=[result for result in ordered if result.success],
            failures=[result for result in ordered if not result.success],
            total_attempts=sum(result.attempts for result in ordered),
            usage=sum((result.usage for result in ordered), TokenUsage()),
            cost=sum(result.cost for result in ordered),
            run_id=ordered[0].run_id if ordered else run_id,
        )

    @property
    def total(self) -> int:
        """The number of inputs."""
        return len(self.successes) + len(self.failures)

    @property
    def results(self) -> list[Result]:
        """Successes and failures together, in input order."""
        results: list[Any] = [*self.successes, *self.failures]
        return sorted(results, key=lambda result: result.index)

    def _panel(self) -> Panel:
        return batch_panel(type(self).__name__, self, [*self.failures, *self.successes])


class MapBatch(Batch[MapResult[Output]], Generic[Output]):
    """All results of a run of `LLMMap`."""
