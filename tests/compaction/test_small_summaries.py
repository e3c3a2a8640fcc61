"""A model that exceeds the limits of small summaries is not asked again and again."""

from __future__ import annotations

from mnesis import Engine, MnesisSession
from mnesis.compaction.summarize import summarize
from mnesis.compaction.summarizer import SummaryRequest
from mnesis.compaction.transcript import passages
from mnesis.llm.answer_lengths import FIRST_PAUSE, AnswerLengths
from mnesis.llm.base import LLMReply
from mnesis.testing import ScriptedLLM
from tests.support.histories import count, turns
from tests.support.summaries import WordyModel, acceptable_summary
from tests.support.sweep_harness import summarizer_of


async def test_a_wordy_model_is_asked_again_for_longer_summaries() -> None:
    lengths, llm = (
        AnswerLengths(),
        ScriptedLLM(lambda request: " ".join(f"word{n}" for n in range(60)), repeat_last=True),
    )

    async def ask(max_tokens: int) -> int:
        messages = turns(30)
        tokens = sum(message.token_count for message in messages)
        request = SummaryRequest(passages(messages), tokens, max_tokens // 2, max_tokens)
        await summarize(request, summarizer_of(llm, lengths=lengths), count)
        asked, llm.requests[:] = len(llm.requests), []
        return asked

    assert [await ask(max_tokens) for max_tokens in (60, 60, 30, 100, 400, 400)] == [2, 0, 0, 0, 2, 2]


async def test_a_wordy_model_is_not_suspended_for_other_sessions() -> None:
    model = WordyModel()
    async with Engine(":memory:", llm=model, config={"recall": {"tools": False}}) as engine:
        for number in range(4):
            async with MnesisSession.open(session_id=f"s{number}", model="m", engine=engine, budget=384) as session:
                before = model.summary_requests
                for turn in range(5):
                    await session.send(f"question {turn} about valve {turn} " + "text " * 40)
                await engine.wait_for_tasks()
                assert model.summary_requests > before


def test_a_writer_is_tried_again_after_a_pause_that_doubles() -> None:
    lengths = AnswerLengths()
    lengths.note_too_long("m", 50, 80)
    refused = []
    for _ in range(3):
        refused.append(0)
        while not lengths.can_ask("m", 50):
            refused[-1] += 1
        lengths.note_too_long("m", 50, 80)
    assert refused == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]


def test_a_writer_that_keeps_to_a_length_is_trusted_again() -> None:
    lengths = AnswerLengths()
    lengths.note_too_long("m", 50, 1_000)
    assert [lengths.can_ask("m", 100), lengths.can_ask("m", 101), lengths.can_ask("other", 1)] == [False, True, True]
    lengths.note_met("m", 101)
    assert not lengths.can_ask("m", 50)
    lengths.note_met("m", 40)
    assert lengths.can_ask("m", 50)


async def test_a_cut_answer_counts_as_too_long() -> None:
    lengths = AnswerLengths()
    llm = ScriptedLLM(lambda request: LLMReply(text="Valve 1 was", finish_reason="length"), repeat_last=True)
    messages = turns(30)
    request = SummaryRequest(passages(messages), sum(message.token_count for message in messages), 50, 100)
    for _ in range(2):
        await summarize(request, summarizer_of(llm, lengths=lengths), count)
    assert len(llm.requests) == 2
    good = ScriptedLLM(acceptable_summary)
    assert (await summarize(request, summarizer_of(good, lengths=lengths), count)).level == 3
