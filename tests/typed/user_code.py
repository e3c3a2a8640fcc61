"""Code as users write it, with the types that its values have. It is not run: `.ci/run` checks it with `mypy --strict`."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from mnesis import AgenticMap, Engine, LLMMap, MnesisConfig, MnesisSession, SessionConfig
from mnesis.operators import AgentOptions


class Label(BaseModel):
    topic: str


async def main() -> None:
    async with MnesisSession.open(model="openai/gpt-4o") as entered:
        assert_type(entered, MnesisSession)
    assert_type(await MnesisSession.create(model=None, config={"compaction": {"auto": False}}), MnesisSession)
    mapper = LLMMap(model="openai/gpt-4o")
    async for result in mapper.run([1], "{{ item }}", Label):
        assert_type(result.output, Label)
    assert_type((await mapper.run_all([1], "{{ item }}", Label)).successes[0].output, Label)
    assert_type((await mapper.run_all([1], "{{ item }}", {"type": "object"})).results[0].output, Any)
    typed = LLMMap[Label](model="openai/gpt-4o")
    async for result in typed.run([1], "{{ item }}"):
        assert_type(result.output, Label)
    assert_type((await typed.run_all([1], "{{ item }}")).results[0].output, Label)
    agents = AgenticMap(model="openai/gpt-4o")
    async for agent_result in agents.run([1], "{{ item }}", output_schema=Label, max_turns=3):
        assert_type(agent_result.output, Label)
    assert_type((await agents.run_all([1], "{{ item }}", output_schema=Label)).successes[0].output, Label)
    assert_type((await agents.run_all([1], "{{ item }}")).results[0].output, Any)
    assert_type((await agents.run_all([1], "{{ item }}", output_schema={"type": "object"})).results[0].output, Any)
    common: AgentOptions = {"max_turns": 3}
    assert_type((await agents.run_all([1], "{{ item }}", **common)).results[0].output, Any)
    typed_agents = AgenticMap[Label](model="openai/gpt-4o")
    async for agent_result in typed_agents.run([1], "{{ item }}"):
        assert_type(agent_result.output, Label)
    assert_type((await typed_agents.run_all([1], "{{ item }}", max_turns=2)).failures[0].output, Label)
    MnesisConfig(session=SessionConfig(retry={"max_retries": 2}, prompt_cache="1h"))
    Engine(config=MnesisConfig(model_overrides={"context_limit": 64_000}, session={"retry": {"max_retries": 1}}))
