"""Automatic recall, pins, and where summaries say to dig: what a request shows beside what is recent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis import ConfigurationError, InvalidMessageError, MnesisConfig, MnesisSession
from mnesis.config import RecallConfig
from mnesis.formats.text import message_text
from mnesis.models.message import Message, ToolPart, ToolResultPart, text_message
from mnesis.models.search import Search, SearchPage
from mnesis.testing import ScriptedLLM
from tests.session.support import MODEL, calls, chatter, small, talk
from tests.support.switched_llm import SwitchedLLM


def settings(**recall: object) -> MnesisConfig:
    given = RecallConfig(enabled=True, tools=False, **recall)  # type: ignore[arg-type]  # fields by name
    return small(auto=False).model_copy(update={"recall": given})


def numbering(messages: object) -> str:
    return "They numbered drawers from 0 to 11: K0, K7919, K15838, K31676, K39595."


@pytest.fixture
def llm() -> SwitchedLLM:
    return SwitchedLLM(ScriptedLLM(numbering, repeat_last=True))


@pytest.fixture
async def session(tmp_path: Path, llm: SwitchedLLM) -> AsyncIterator[MnesisSession]:
    """Twelve turns, all but two of them folded, with recall on."""
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "s.db", config=settings(), llm=llm) as session:
        await talk(session, 12)
        await session.compact()
        llm.client = ScriptedLLM(["fine"] * 9)
        yield session


def contents(messages: list[dict[str, object]]) -> list[str]:
    return [str(message["content"]) for message in messages]


async def test_what_the_newest_message_asks_for_stands_right_before_it(
    session: MnesisSession, llm: SwitchedLLM
) -> None:
    await session.send("Which code has drawer 3?")
    shown = contents(llm.requests[-1].messages)
    assert shown[-1] == "Which code has drawer 3?"
    assert "K23757" in shown[-2]
    assert shown[-2].startswith("[Recalled from earlier")
    assert "drawer 3 is K23757" not in "".join(shown[:-2])


async def test_everything_before_it_stays_as_it_was(session: MnesisSession, llm: SwitchedLLM) -> None:
    before = await session.context_for_next_turn()
    await session.send("Which code has drawer 3?")
    sent = llm.requests[-1].messages[1:]  # after the system prompt
    assert sent[: len(before)] == before
    after = await session.context_for_next_turn()
    assert "Recalled" not in str(after)


async def test_other_clients_name_the_message_they_are_going_to_send(session: MnesisSession) -> None:
    plain = await session.context_for_next_turn()
    asked = await session.context_for_next_turn(message="Which code has drawer 3?")
    assert asked[:-1] == plain
    assert "K23757" in asked[-1]["content"]
    blocks = await session.context_for_next_turn(provider="anthropic", message="Which code has drawer 3?")
    assert "K23757" in str(blocks[-1])


async def test_nothing_is_recalled_that_the_window_shows(session: MnesisSession) -> None:
    window = await session.window(message="drawer 10 drawer 11 code")
    block = message_text(window.messages[-1])
    shown = {m.id for m in (await session.window()).messages}
    assert block.startswith("[Recalled")
    assert not any(f"[{message_id} ·" in block for message_id in shown)


@pytest.mark.parametrize("question", ["", "who are you?", "🎉", "zebra xylophone"])
async def test_nothing_is_recalled_without_a_reason(session: MnesisSession, question: str) -> None:
    assert (await session.window(message=question)).messages == (await session.window()).messages


async def test_recall_stays_within_its_tokens(tmp_path: Path) -> None:
    for tokens in (100, 300, 1_000):
        config = settings(max_tokens=tokens)
        async with MnesisSession.open(
            model=MODEL, db_path=tmp_path / f"{tokens}.db", config=config, llm=lambda m: "Drawers."
        ) as session:
            await talk(session, 12, words=200)
            await session.compact()
            plain, asked = await session.window(), await session.window(message="drawer code note mind")
            assert 0 <= asked.tokens - plain.tokens <= tokens
            assert asked.tokens <= asked.budget_tokens


async def test_all_requests_of_a_turn_show_the_same(session: MnesisSession, llm: SwitchedLLM) -> None:
    def look() -> str:
        return "nothing about drawers or codes"

    llm.client = ScriptedLLM([calls(("look", {})), "K23757"])
    search, asked = session.engine.store.search, []

    async def counted(wanted: Search) -> SearchPage:
        asked.append(wanted.query)
        return await search(wanted)

    session.engine.store.search = counted  # type: ignore[method-assign]  # to see how often it is asked
    await session.send("Which code has drawer 3?", tools=[look])
    first, second = (request.messages for request in llm.requests)
    assert second[: len(first)] == first
    assert "Recalled" in str(first)
    assert asked == ["Which code has drawer 3?"]


async def test_it_is_off_by_default(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "s.db", config=small(auto=False), llm=lambda m: "Drawers."
    ) as session:
        await talk(session, 12)
        await session.compact()
        assert (await session.window(message="drawer 3")).messages == (await session.window()).messages


# Pins


async def test_a_pinned_message_survives_every_fold_word_for_word(session: MnesisSession, llm: SwitchedLLM) -> None:
    note = text_message("user", "The launch is on the 4th of May at 7:15, bay 12.")
    await session.append([note])
    await session.pin(note.id)
    fact = await session.pin_fact("The captain is called Ines.")
    llm.client = ScriptedLLM(numbering, repeat_last=True)
    for first in range(12, 60, 12):
        await talk(session, 12, first=first)
        await session.compact()
    shown = contents(await session.context_for_next_turn())
    assert "The launch is on the 4th of May at 7:15, bay 12." in shown
    assert "[Pinned] The captain is called Ines." in shown
    assert [message.id for message in await session.pins()] == [note.id, fact.id]
    await session.unpin(note.id)
    await talk(session, 3, first=60)
    await session.compact()
    assert [message.id for message in await session.pins()] == [fact.id]
    assert note.text_content() not in contents(await session.context_for_next_turn())
    assert await session.engine.store.check() == []


async def test_with_a_pinned_result_its_call_stays(session: MnesisSession, llm: SwitchedLLM) -> None:
    call = Message(id="call", role="assistant", parts=(ToolPart(tool_name="read", tool_call_id="c", input={}),))
    result = Message(id="result", role="tool", parts=(ToolResultPart(tool_call_id="c", output="tide at noon"),))
    await session.append([text_message("user", "read"), call, result])
    await session.pin("result")
    llm.client = ScriptedLLM(numbering, repeat_last=True)
    await talk(session, 6, first=12)
    await session.compact()
    ids = [message.id for message in (await session.window()).messages]
    assert ids.index("result") == ids.index("call") + 1


async def test_a_folded_message_can_be_pinned_and_comes_back_verbatim(session: MnesisSession, llm: SwitchedLLM) -> None:
    original = (await session.messages())[6]
    assert original.text_content() not in str(await session.context_for_next_turn())
    pinned = await session.pin(original.id)
    assert await session.pin(original.id) == pinned
    llm.client = ScriptedLLM(numbering, repeat_last=True)
    await talk(session, 6, first=12)
    await session.compact()
    shown = [message for message in (await session.window()).messages if message.id == pinned.id]
    assert original.text_content() in shown[0].text_content()
    assert [message.id for message in await session.pins()] == [pinned.id]
    await session.unpin(original.id)
    assert await session.pins() == []


async def test_a_pin_that_would_take_too_much_stores_nothing(session: MnesisSession) -> None:
    await session.record("word " * 4_000, "Noted.")
    await session.compact()
    count = len(await session.messages())
    with pytest.raises(ConfigurationError, match="quarter"):
        await session.pin((await session.messages())[24].id)
    assert len(await session.messages()) == count


async def test_pinned_facts_are_bounded(session: MnesisSession) -> None:
    with pytest.raises(ConfigurationError, match="quarter"):
        await session.pin_fact("word " * 4_000)
    assert len(await session.messages()) == 24
    with pytest.raises(InvalidMessageError):
        await session.pin_fact("  ")
    assert await session.pins() == []


# Where to dig


async def test_a_models_summary_ends_with_what_can_be_expanded_for_which_detail(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=MODEL,
        db_path=tmp_path / "s.db",
        config=small(auto=False),
        llm=lambda m: "Numbers K0, K7919, K15838 and a harbour with Ines.",
    ) as session:
        await talk(session, 4)
        await session.record(
            "The harbourmaster Ines keeps the ledger in cabin nine. " * 4, "Noted: ledger, cabin nine."
        )
        await talk(session, 6, first=4)
        await session.compact()
        (summary,) = await session.summaries()
        assert summary.pointers[0].startswith('cursor="0" messages 1-')
        (line,) = [line for line in summary.pointers if "ledger" in line or "ines" in line]
        shown = contents(await session.context_for_next_turn())[0]
        assert line in shown
        cursor = line.split('"')[1]
        page = await session.expand(summary.id, cursor=cursor, limit=20)
        assert any("harbourmaster" in message.text_content() for message in page.messages)
        assert summary.token_count < summary.source_tokens / 2
        assert chatter(0)[0] not in shown


async def test_extracts_say_it_with_their_own_words(tmp_path: Path) -> None:
    async with MnesisSession.open(
        model=None, session_id="s", db_path=tmp_path / "s.db", config=small(auto=False)
    ) as session:
        await talk(session, 12)
        await session.compact()
        (summary,) = await session.summaries()
        assert (summary.level, summary.pointers) == (3, ())


@pytest.mark.parametrize("word", ["", "zeppelin "])
async def test_a_word_that_nobody_said_displaces_no_good_hit(tmp_path: Path, word: str) -> None:
    config = settings(max_tokens=480)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "s.db", config=config, llm=numbering) as session:
        await session.record(
            "The boiler valve is behind the shelf in the cellar.", "The boiler valve turns to the left."
        )
        for number in range(8):
            await session.record(f"Jar {number} is on the shelf in the cellar. " * 8, "Noted.")
            await session.record(f"Entry {number} of the diary.", "Copied.")
            await session.record(f"Page {number} of the novel.", "Read.")
        await session.compact()
        question = f"How does the {word}boiler valve behind the shelf in the cellar turn?"
        recalled = message_text((await session.window(message=question)).messages[-1])
    assert "The boiler valve turns to the left." in recalled
    assert "The boiler valve is behind the shelf in the cellar." in recalled
