"""What a turn says of itself, and arguments that are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import CompactionConfig, ConfigurationError, InvalidMessageError, MnesisConfig, MnesisSession
from mnesis.errors import ContextOverflowError
from mnesis.formats.parse import new_message
from mnesis.models.message import TextPart
from mnesis.testing import ScriptedLLM
from tests.support.warm_python import run_python

MODEL = "openai/gpt-4o"


@pytest.mark.parametrize(
    "arguments", [{"limit": "5"}, {"limit": None}, {"max_tokens": "5"}, {"cursor": "9" * 5_000}, {"cursor": "9" * 30}]
)
async def test_a_page_of_originals_refuses_what_is_no_number(db: Path, arguments: dict[str, Any]) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        with pytest.raises(ConfigurationError):
            await session.expand("sum_any", **arguments)


async def test_other_reading_methods_refuse_wrong_arguments_too(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        await session.record("ferry", "boat")
        for neighbours in ("5", None, 1.5, -1):
            with pytest.raises(ConfigurationError):
                await session.search("ferry", neighbours=neighbours)  # type: ignore[arg-type]  # what is tested
        with pytest.raises(ConfigurationError):
            [message async for message in session.iter_messages(page="5")]  # type: ignore[arg-type]  # what is tested
        with pytest.raises(InvalidMessageError):
            await session.window(message=5)  # type: ignore[arg-type]  # what is tested


async def test_an_overflow_that_persists_keeps_the_providers_error_as_cause(db: Path) -> None:
    overflow, provider = ContextOverflowError("too long"), ValueError("the provider's own words")
    overflow.__cause__ = provider
    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM([overflow])) as session:
        with pytest.raises(ContextOverflowError) as caught:
            await session.send("hello")
    assert caught.value.__cause__ is provider


async def test_a_turn_that_waits_for_a_compaction_begun_before_it_says_so(db: Path) -> None:
    config = MnesisConfig(
        compaction=CompactionConfig(compaction_output_budget=1_000),
        model_overrides={"context_limit": 8_000, "max_output_tokens": 1_000},  # type: ignore[arg-type]  # a dict is accepted
    )
    llm = ScriptedLLM("fine", repeat_last=True)
    async with MnesisSession.open(model=MODEL, db_path=db, config=config, llm=llm) as session:
        texts = (f"message {number} " + f"word{number} " * 200 for number in range(40))
        roles = ("user", "assistant") * 20
        await session.append([new_message(r, [TextPart(text=t)]) for r, t in zip(roles, texts, strict=True)])  # type: ignore[arg-type]  # two roles
        result = await session.send("and now?")
        assert result.compaction_result is not None
        assert result.compaction_triggered


def test_retries_write_nothing_to_a_program_that_configured_no_logging(db: Path) -> None:
    code = """
import asyncio, sys
from mnesis import MnesisConfig, MnesisSession, RetryConfig, SessionConfig
from mnesis.errors import LLMRateLimitError
from mnesis.testing import ScriptedLLM
async def main():
    config = MnesisConfig(session=SessionConfig(retry=RetryConfig(max_retries=2, base_delay=0.0)))
    llm = ScriptedLLM([LLMRateLimitError("slow down"), "fine"])
    async with MnesisSession.open(model="openai/gpt-4o", db_path=sys.argv[1], config=config, llm=llm) as session:
        print((await session.send("hello")).text)
asyncio.run(main())
"""
    ran = run_python(["-c", code, str(db)], has_mnesis=True)
    assert (ran.stdout, ran.stderr) == ("fine\n", "")
