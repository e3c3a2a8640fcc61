"""Every example and promise of the page "BYO-LLM", with stand-ins for the providers' clients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mnesis import MnesisSession, RecordResult, TokenUsage
from mnesis.events.bus import MnesisEvent
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, chatter, small
from tests.support.summaries import acceptable_summary


class AnthropicClient:
    """Answers as the Messages API does."""

    def __init__(self) -> None:
        self.messages = self
        self.sent: list[dict[str, Any]] = []

    def create(self, *, model: str, max_tokens: int, messages: list[dict[str, Any]]) -> SimpleNamespace:
        self.sent = messages
        return SimpleNamespace(
            content=[SimpleNamespace(type="text", text="Two particles share one state.")],
            usage=SimpleNamespace(input_tokens=12, output_tokens=7),
        )


class OpenAIClient:
    """Answers as the chat-completions API does."""

    def __init__(self) -> None:
        self.chat = SimpleNamespace(completions=self)
        self.sent: list[dict[str, Any]] = []

    async def create(self, *, model: str, messages: list[dict[str, Any]]) -> SimpleNamespace:
        self.sent = messages
        return SimpleNamespace(
            choices=[SimpleNamespace(message=SimpleNamespace(content="Paris."))],
            usage=SimpleNamespace(prompt_tokens=9, completion_tokens=2),
        )


async def test_the_anthropic_example() -> None:
    client = AnthropicClient()
    session = await MnesisSession.create(model="anthropic/claude-opus-4-6")
    for user_text in ("Explain quantum entanglement.", "Shorter, please."):
        history = await session.messages()
        messages = [{"role": m.role, "content": m.text_content()} for m in history]
        messages.append({"role": "user", "content": user_text})
        response = client.messages.create(
            model="claude-opus-4-6",
            max_tokens=1024,
            messages=messages,
        )
        await session.record(
            user_message=user_text,
            assistant_response=response.content[0].text,
            tokens=TokenUsage(
                input=response.usage.input_tokens,
                output=response.usage.output_tokens,
            ),
        )
    assert client.sent == [
        {"role": "user", "content": "Explain quantum entanglement."},
        {"role": "assistant", "content": "Two particles share one state."},
        {"role": "user", "content": "Shorter, please."},
    ]
    assert session.token_usage == TokenUsage(input=24, output=14, total=38)
    await session.close()


async def test_the_openai_example() -> None:
    client = OpenAIClient()
    session = await MnesisSession.create(model="openai/gpt-4o")
    user_text = "What is the capital of France?"
    history = await session.messages()
    messages = [{"role": m.role, "content": m.text_content()} for m in history]
    messages.append({"role": "user", "content": user_text})
    response = await client.chat.completions.create(
        model="gpt-4o",
        messages=messages,
    )
    await session.record(
        user_message=user_text,
        assistant_response=response.choices[0].message.content,
        tokens=TokenUsage(
            input=response.usage.prompt_tokens,
            output=response.usage.completion_tokens,
        ),
    )
    assert [m.text_content() for m in await session.messages()] == [user_text, "Paris."]
    await session.close()


async def test_record_estimates_tokens_where_none_are_given() -> None:
    async with MnesisSession.open(model=MODEL) as session:
        result = await session.record(
            user_message="Hello",
            assistant_response="Hi there!",
        )
        assert 1 <= result.tokens.input < 20
        assert 1 <= result.tokens.output < 20
        assert session.token_usage.effective_total() == result.tokens.effective_total()


async def test_record_takes_the_reported_tokens() -> None:
    async with MnesisSession.open(model=MODEL) as session:
        result = await session.record(
            user_message="Hello",
            assistant_response="Hi there!",
            tokens=TokenUsage(input=5, output=3),
        )
        assert result.tokens == TokenUsage(input=5, output=3)
        assert (await session.messages())[1].tokens == TokenUsage(input=5, output=3)


async def test_the_result_names_both_stored_messages() -> None:
    async with MnesisSession.open(model=MODEL) as session:
        result = await session.record("Hello", "Hi there!")
        assert isinstance(result, RecordResult)
        stored = await session.messages()
        assert [m.id for m in stored] == [result.user_message_id, result.assistant_message_id]
        assert [(m.role, m.text_content()) for m in stored] == [("user", "Hello"), ("assistant", "Hi there!")]
        assert result.compaction_triggered is False


async def test_record_calls_no_model() -> None:
    model = ScriptedLLM([])
    async with MnesisSession.open(model=MODEL, llm=model) as session:
        await session.record("Hello", "Hi there!")
    assert model.requests == []


async def test_record_compacts_in_the_background_without_configuration(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM(acceptable_summary)
    ) as session:
        seen = EventRecorder(session.event_bus)
        results = []
        for number in range(60):
            results.append(await session.record(*chatter(number)))
            if results[-1].compaction_triggered:
                break
        assert results[-1].compaction_triggered
        completed = await seen.wait_for(MnesisEvent.COMPACTION_COMPLETED)
        assert completed[0].trigger == "soft"
        assert completed[0].tokens_after < completed[0].tokens_before
        assert len(await session.messages()) == 2 * len(results)


async def test_reported_tokens_trigger_compaction_though_the_text_is_short(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM("Short.")
    ) as session:
        for number in range(8):
            result = await session.record(*chatter(number))
        assert not result.compaction_triggered
        result = await session.record("and now", "with a large system prompt", tokens=TokenUsage(input=5_000, output=9))
        assert result.compaction_triggered
