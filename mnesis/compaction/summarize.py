"""Summaries at three levels.

Level 1 is structured and level 2 terse, both by a model. Level 3 is extracted without a model and never fails. A model's
answer is accepted only if it is complete, smaller than its source, within its budget, and not obviously bad; see
`mnesis.compaction.acceptance`. Otherwise the next level is tried.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

from anyio import to_thread

from mnesis.compaction.extract import extract
from mnesis.compaction.summarizer import (
    RejectedSummaryError,
    Spending,
    Summarizer,
    SummaryRequest,
    SuspendedError,
    TooLongSummaryError,
    TooShortLimitError,
)
from mnesis.models.results import CompactionAttempt
from mnesis.redaction import get_logger
from mnesis.tokens.estimator import TokenCounter

logger = get_logger(__name__)

Fault = Literal["content", "length", "call"]


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """The text of a summary, its level, and all attempts that led to it."""

    text: str
    level: int
    attempts: tuple[CompactionAttempt, ...]
    model_id: str = ""


class _Outcome(NamedTuple):
    """The result of one level. `fault` is the kind of problem: the content of the answer, its length, or no answer."""

    text: str
    attempt: CompactionAttempt
    fault: Fault | None


async def summarize(
    request: SummaryRequest, summarizer: Summarizer | None, count: TokenCounter, *, level2_enabled: bool = True
) -> SummaryDraft:
    """Return the summary of the first level that succeeds.

    Level 3 is not checked: the caller decides whether it helps.
    """
    attempts: list[CompactionAttempt] = []
    rejections: dict[Fault, str] = {}
    for writer, level, max_tokens in _list_tries(request, summarizer, level2_enabled):
        text, attempt, fault = await _attempt(request, writer, level, max_tokens, count)
        attempts.append(attempt)
        if fault is None or attempt.rejection is None:
            return SummaryDraft(text=text, level=level, attempts=tuple(attempts), model_id=writer.model)
        rejections[fault] = attempt.rejection
        logger.info("level %d summary rejected: %s", level, attempt.rejection.partition(": ")[0])
        if summarizer is not None and summarizer.suspension() is not None:
            break
    if summarizer is not None and "content" in rejections and "call" not in rejections:
        # A model that only writes too much for this session is not suspended for others: `AnswerLengths` remembers it.
        summarizer.note_rejections(rejections["content"])
    started = time.monotonic()
    text = await to_thread.run_sync(
        lambda: extract(request.passages, max_tokens=request.target_tokens, count=count, focus=request.focus)
    )
    attempts.append(CompactionAttempt(level=3, seconds=time.monotonic() - started))
    return SummaryDraft(text=text, level=3, attempts=tuple(attempts))


def _list_tries(
    request: SummaryRequest, summarizer: Summarizer | None, level2_enabled: bool
) -> list[tuple[Summarizer, int, int]]:
    """Return the models to ask in order, each with a level and a limit in tokens."""
    if summarizer is None:
        return []
    cheaper = summarizer.find_cheaper_writer(request)
    tries = [(cheaper, 1, request.max_tokens)] if cheaper is not None else []
    tries.append((summarizer, 1, request.max_tokens))
    return [*tries, (summarizer, 2, request.max_tokens // 2)] if level2_enabled else tries


async def _attempt(
    request: SummaryRequest, summarizer: Summarizer, level: int, max_tokens: int, count: TokenCounter
) -> _Outcome:
    """Return the text of one level, and the attempt with its spending and, if it was rejected, the reason."""
    started, spending = time.monotonic(), Spending()
    text, rejection = "", None
    fault: Fault | None = None
    try:
        text = await summarizer.summarize(request, level, max_tokens, count, spending)
    except RejectedSummaryError as error:
        rejection, fault = str(error), "length" if isinstance(error, TooLongSummaryError) else "content"
    except TooShortLimitError as error:
        rejection, fault = str(error), "length"
    except (SuspendedError, TimeoutError) as error:
        rejection, fault = str(error), "call"
    except Exception as error:
        # No failure of a summarizer, which may be the user's own function, may stop a compaction.
        rejection, fault = f"{type(error).__name__}: {error}", "call"
    attempt = CompactionAttempt(
        level=level,
        rejection=rejection,
        model=summarizer.model,
        calls=spending.calls,
        usage=spending.usage,
        cost=spending.cost,
        seconds=time.monotonic() - started,
    )
    return _Outcome(text, attempt, fault)
