"""Ranking adapts to the kind of log: repeated words, independent notes, tool outputs between short messages, long questions."""

from __future__ import annotations

import pytest

from mnesis import MnesisSession
from mnesis.models.message import text_message
from mnesis.search.analysis import (
    LONG_QUERY_TERMS,
    REPEATED_MARK,
    build_index_entry,
    count_words,
    query_terms,
    term_weight,
)
from mnesis.search.query_time import QueryTime
from mnesis.search.ranking import MessageStats, QueryTerm, rank

MINUTE, DAY = 60_000, 86_400_000


def logged(count: int, *, words: int = 10, pause: int = MINUTE) -> list[MessageStats]:
    return [MessageStats(n + 1, words, n * pause) for n in range(count)]


def scores(messages: list[MessageStats], *terms: QueryTerm) -> dict[int, float]:
    return dict(rank(messages, terms, len(messages), (), QueryTime("")))


def term(text: str, *keys: int) -> QueryTerm:
    return QueryTerm((text,), frozenset(keys), len(keys))


async def test_a_message_that_repeats_a_word_ranks_above_one_that_has_it_once(session: MnesisSession) -> None:
    texts = {
        "once": "the valve and many other parts of it were seen by us on that day in spring",
        "thrice": "the valve, again the valve, and once more the valve were seen on that day in spring",
        **{f"other{n}": f"note {n} about other parts that were seen by us on a day in spring" for n in range(20)},
    }
    await session.append([text_message("user", text, id=name) for name, text in texts.items()])
    assert [hit.message_id for hit in await session.search("valve")][:2] == ["thrice", "once"]


def test_words_that_occur_often_are_indexed_with_more_marks() -> None:
    words = build_index_entry(text_message("user", "a b b c c c c", id="m")).text.split()
    marks = {word.lstrip(REPEATED_MARK): word.count(REPEATED_MARK) for word in words}
    assert marks == {"a": 0, "b": 1, "c": 2}


def test_neighbours_of_notes_that_stand_alone_get_nothing() -> None:
    notes = [MessageStats(n + 1, 10, n * DAY) for n in range(50)]
    together = logged(50)
    share = scores(together, term("topic", 10)).get(11, 0.0)
    # Two notes of one day do not make a conversation of all of them.
    notes[10] = MessageStats(11, 10, 9 * DAY + MINUTE)
    assert scores(notes, term("topic", 10)).get(11, 0.0) < share / 10


def test_tool_outputs_between_short_messages_make_neighbours_count_less() -> None:
    chat = logged(60, words=30)
    agent = [MessageStats(m.key, 300 if m.key % 10 == 5 else 10, m.created_at) for m in chat]

    def share(messages: list[MessageStats]) -> float:
        found = scores(messages, term("topic", 22))
        return found[23] / found[22]

    assert share(agent) < 0.5 * share(chat)


@pytest.mark.parametrize(("text", "words"), [("two words", 2), ("机器学习很有趣", 7), ("ab 机器 c", 4), ("", 0)])
def test_characters_of_a_script_without_spaces_count_as_words(text: str, words: int) -> None:
    assert count_words(text) == words


def test_a_pair_of_stop_characters_is_a_stop_word() -> None:
    words = {forms[0] for forms in query_terms("我们的机器在哪")}
    assert "机器" in words
    assert "我们" not in words


def test_a_pair_with_one_stop_character_counts_less() -> None:
    assert term_weight("的狗", 3) < term_weight("机器", 3) == 1


def test_words_of_any_conversation_count_less_in_a_long_query() -> None:
    assert term_weight("really", LONG_QUERY_TERMS) == 1
    assert term_weight("really", 2 * LONG_QUERY_TERMS) == 0.5
    assert term_weight("orchid", 2 * LONG_QUERY_TERMS) == 1


async def test_what_a_long_message_is_about_outranks_its_phrases(session: MnesisSession) -> None:
    texts = {f"other{n}": f"Lisa painted picture {n} and felt happy." for n in range(30)}
    texts |= {"phrases": "Probably late.", "topic": "Bart found an orchid at the sea."}
    await session.append(
        [text_message("user", text, id=name, created_at=n * 10**8) for n, (name, text) in enumerate(texts.items())]
    )
    said = "Yes, really? Best thing, probably, sure, an idea I keep. I think you would like to look for an orchid sometimes."
    assert (await session.search(said))[0].message_id == "topic"


async def test_the_end_of_a_long_question_without_spaces_counts(session: MnesisSession) -> None:
    texts = {f"other{n}": f"今天天气不错, 第{n}次" for n in range(20)} | {"answer": "培根披萨味道丰富"}
    await session.append([text_message("user", text, id=name) for name, text in texts.items()])
    question = (
        "听起来很好啊每次去那里都觉得环境特别安逸而且还可以看到湖边夕阳落下真是让人非常放松心情舒畅, 所以我点了培根"
    )
    assert (await session.search(question))[0].message_id == "answer"
