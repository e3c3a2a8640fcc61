"""Sweeps of agents' sessions, whose turns are long: they end low, and cost no level."""

from __future__ import annotations

from mnesis.config import CompactionConfig
from mnesis.models.message import Message, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from tests.support.histories import text_message
from tests.support.sweep_harness import Summariser, SweepHarness, budget_of


def agent_turn(number: int, steps: int) -> list[Message]:
    messages = [text_message("user", f"please fix module-{number}")]
    for step in range(steps):
        call_id = f"call-{number}-{step}"
        call = ToolPart(tool_name="read", tool_call_id=call_id, input={"path": f"src/part{number}_{step}.py"})
        messages.append(Message(id="d", role="assistant", parts=(call,)))
        output = f"Line {step} of file part{number}_{step}.py has value {number * 100 + step}. " * 60
        messages.append(
            Message(id="d", role="tool", parts=(ToolResultPart(tool_call_id=call_id, tool_name="read", output=output),))
        )
    messages.append(text_message("assistant", f"module-{number} works now"))
    return messages


async def test_by_default_a_sweep_ends_low_although_turns_are_long() -> None:
    harness = await SweepHarness(budget=budget_of(100_000, low_water=8_000)).begin()
    while await harness.tokens() < harness.budget.soft_tokens:
        await harness.append(agent_turn(len(harness.log), steps=12))
    whole = await SweepHarness(budget=harness.budget, config=CompactionConfig(fresh_tail_fraction=None)).begin(
        harness.log
    )
    result = await harness.sweep(Summariser(), "soft")
    await harness.check()
    kept_whole = await whole.sweep(Summariser(), "soft")
    assert result.tokens_after < 8_000 + 5_000
    assert kept_whole.tokens_after > result.tokens_after + 10_000
    kept = [item for item in (await harness.context()).items if isinstance(item, Message)]
    assert kept[0].role == "user", "the newest question stays"
    assert kept[-1].text_content() == harness.log[-1].text_content()


async def test_a_question_between_two_summaries_is_no_sign_of_a_failed_level() -> None:
    """It is too short for a summary, so its text becomes the leaf that the next sweep merges."""
    harness = await SweepHarness(budget=budget_of(100_000, low_water=8_000)).begin()
    llm, levels = Summariser(), []
    for _ in range(3):
        while await harness.tokens() < harness.budget.soft_tokens:
            await harness.append(agent_turn(len(harness.log), steps=12))
        levels.append((await harness.sweep(llm, "soft")).level_used)
        await harness.check()
    assert levels == [1, 1, 1]
    copies = [summary for summary in (await harness.summaries()).values() if summary.level == 3]
    assert copies, "the questions were copied"
    assert all("please fix" in copy.text for copy in copies)
    shown = [item for item in (await harness.context()).items if isinstance(item, Summary)]
    assert {summary.level for summary in shown} == {1}
