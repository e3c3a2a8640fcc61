"""Level 3: always within its room, always the conversation's own words, and the ones that matter."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.compaction import extract as extract_module
from mnesis.compaction.extract import Passage, extract
from mnesis.compaction.identifiers import ALSO_MENTIONED
from mnesis.compaction.sentences import MAX_UNIT_CHARS, shorten, split_units
from mnesis.tokens import TokenEstimator
from tests.support.samples import sampled

_estimator = TokenEstimator()


def count(text: str) -> int:
    return _estimator.estimate(text, "gpt-4o")


SMALL_TALK = [
    "Good morning! How are you doing today?",
    "I am doing fine, thanks for asking. How about you?",
    "That is great to hear, thank you so much.",
    "Sure, happy to help with that.",
    "Okay, sounds good to me.",
    "Let me know if there is anything else you would like.",
]
LOG = "\n".join(
    f"2031-02-03 07:{n // 60:02d}:{n % 60:02d},{n % 997:03d} INFO worker-{n % 4} job {n} done" for n in range(600)
)
FACTS = [
    Passage("user", "The harbour office in Turku opens on March 14th; Aino Virtanen signs the contract there."),
    Passage("assistant", "We decided to store the tickets in /srv/ferry/tickets.db instead of the spreadsheet."),
    Passage("user", "Never send invoices above 4,200 euros without asking Pekka first."),
    Passage("tool", f"{LOG}\n2031-02-03 08:11:59 ERROR worker-2 DuplicateKeyError: berth_id 1181 is taken\n{LOG}"),
]


def _conversation() -> list[Passage]:
    """Four passages that matter, each in the midst of talk that does not."""
    passages = []
    for fact in FACTS:
        passages += [Passage("user" if n % 2 else "assistant", SMALL_TALK[n % 6]) for n in range(24)]
        passages.append(fact)
    return passages


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


@pytest.mark.parametrize("max_tokens", [1, 5, 30, 60, 200, 1_000, 5_000])
def test_it_never_exceeds_its_room(max_tokens: int) -> None:
    assert count(extract(_conversation(), max_tokens=max_tokens, count=count)) <= max_tokens


def test_facts_survive_where_small_talk_goes() -> None:
    text = extract(_conversation(), max_tokens=250, count=count)
    for fact in ("Turku", "March 14th", "Aino Virtanen", "/srv/ferry/tickets.db", "instead of", "4,200", "Pekka"):
        assert fact in text
    for sentence in SMALL_TALK:
        assert text.count(sentence) <= 1


def test_a_long_output_gives_its_fault_and_not_its_routine() -> None:
    text = extract(_conversation(), max_tokens=400, count=count)
    assert "berth_id 1181" in text
    assert text.count(" INFO ") <= 15


def test_lines_keep_their_order_and_name_their_speaker() -> None:
    text = extract(_conversation(), max_tokens=250, count=count)
    assert text.index("Turku") < text.index("tickets.db") < text.index("4,200") < text.index("berth_id")
    assert all(re.match(r"(user|assistant|tool|Also mentioned): \S", line) for line in text.splitlines())


def test_a_question_comes_with_an_answer_that_means_nothing_without_it() -> None:
    question = "Shall I paint the wheelhouse green?"
    told_before = [
        Passage("user", f"Shall I tell you who will paint the wheelhouse green number {n}.") for n in range(9)
    ]
    passages = [*told_before, *_conversation(), Passage("assistant", question), Passage("user", "No, crimson.")]
    lines = extract(passages, max_tokens=400, count=count).splitlines()
    answer = next(place for place, line in enumerate(lines) if "crimson" in line)
    assert "wheelhouse" in lines[answer - 1]


def _invented_words(number: int) -> list[str]:
    chance = random.Random(number)
    return ["".join(chance.choices("bcdfghaeiou", k=7)) for _ in range(number)]


@pytest.mark.parametrize(("telling", "plain"), [("decided", "noticed"), ("timeout", "surface"), ("must", "did")])
def test_of_two_lines_alike_the_one_with_a_decision_or_a_fault_is_kept(telling: str, plain: str) -> None:
    words = _invented_words(80)
    passages = [Passage("a", f"Crew {plain if n % 2 else telling} near {word}.") for n, word in enumerate(words)]
    text = extract(passages, max_tokens=200, count=count)
    assert text.count(telling) > 4 * text.count(plain)


def test_a_long_output_does_not_push_the_speech_aside() -> None:
    syllables = ["".join(letters) for letters in itertools.product("bdfhlmnprst", "aeiou", "bdlmnprst")]
    output = Passage("tool", "\n".join(" ".join(syllables[n : n + 6]) for n in range(0, len(syllables), 3)))
    speech = [
        Passage("user", "Our cook quit after breakfast and nobody peeled potatoes."),
        Passage("user", "Anchor chains rusted badly over winter."),
        Passage("user", "My sister painted both lifeboats orange yesterday."),
        Passage("user", "Fog delayed six passengers until midnight."),
    ]
    text = extract([*speech[:2], output, *speech[2:]], max_tokens=150, count=count)
    assert all(passage.text in text for passage in speech)


def test_a_listing_of_numbers_does_not_push_the_speech_aside() -> None:
    chance = random.Random(3)
    listing = Passage("tool", "\n".join(f"{chance.randrange(10**6)} {chance.randrange(10**6)} ok" for _ in range(80)))
    speech = [
        Passage("user", f"Then we went on to see {name}.") for name in ("turku", "oulu", "kotka", "rauma", "hanko")
    ]
    text = extract([*speech[:3], listing, *speech[3:]], max_tokens=110, count=count)
    assert all(passage.text in text for passage in speech[1:])


def test_every_part_of_a_long_conversation_is_heard() -> None:
    words = _invented_words(6_400)
    quiet = [f"Remember that {words[2 * n]} lives near {words[2 * n + 1]}." for n in range(200)]
    loud = [" ".join(words[n : n + 30]).title() + "." for n in range(400, 6_400, 30)]
    passages = [Passage("a", text) for text in quiet[:100] + loud + quiet[100:]]
    text = extract(passages, max_tokens=1_000, count=count)
    assert any(sentence.split()[2] in text for sentence in quiet[:100])
    assert any(sentence.split()[2] in text for sentence in quiet[100:])


def test_what_fits_is_given_whole() -> None:
    passages = [Passage("user", "The  a really\nquite odd text."), Passage("", "no speaker"), Passage("tool", "  ")]
    assert extract(passages, max_tokens=100, count=count) == "user: The a really quite odd text.\nno speaker"


def test_the_same_input_gives_the_same_output() -> None:
    assert extract(_conversation(), max_tokens=300, count=count) == extract(
        _conversation(), max_tokens=300, count=count
    )


def test_repetition_is_said_once() -> None:
    passages = [Passage("user", "The lighthouse keeper moved to Oulu in 1987.")] * 400
    text = extract(passages, max_tokens=300, count=count)
    assert text.count("Oulu") == 1


def test_it_says_nothing_that_was_not_said() -> None:
    passages = _conversation()
    said = Counter(word for passage in passages for word in _words(f"{passage.speaker} {passage.text}"))
    said.update(_words(ALSO_MENTIONED))
    assert set(_words(extract(passages, max_tokens=500, count=count))) <= set(said)


def test_it_uses_the_room_it_has() -> None:
    chance = random.Random(7)
    texts = [" ".join("".join(chance.choices("abcdeiou", k=5)) for _ in range(12)) + "." for _ in range(300)]
    assert count(extract([Passage("user", text) for text in texts], max_tokens=1_000, count=count)) >= 900


def test_sentences_of_unspaced_scripts_are_told_apart() -> None:
    text = "今天天气很好。" * 40 + "王经理决定星期五搬到上海的新办公室。" + "今天天气很好。" * 40
    found = extract([Passage("user", text)], max_tokens=40, count=count)
    assert "王经理决定星期五搬到上海" in found
    assert found.count("今天天气很好") <= 1


@pytest.mark.parametrize(
    "text",
    ["word " * 3_000, "x" * 20_000, "汉字" * 5_000, '{"key": [1, 2, 3], "other": "value"}, ' * 500, "🎉🚀" * 3_000,
     "." * 20_000, "def f(x):\n    return x + 1\n" * 500, "q9Zb/+" * 3_000, "\ud800 \0 " * 2_000, "?" * 5_000],
)  # fmt: skip
@pytest.mark.parametrize("max_tokens", [30, 300])
def test_one_giant_message_without_sentences_still_gives_something(text: str, max_tokens: int) -> None:
    found = extract([Passage("tool", text)], max_tokens=max_tokens, count=count)
    assert found.strip()
    assert count(found) <= max_tokens


@pytest.mark.parametrize("passages", [[], [Passage("user", "")], [Passage("user", " \n " * 10_000)]])
def test_nothing_said_gives_nothing(passages: list[Passage]) -> None:
    assert extract(passages, max_tokens=50, count=count) == ""


def test_thousands_of_tiny_messages_fit() -> None:
    passages = [Passage("user" if n % 2 else "assistant", f"ok {n}") for n in range(2_000)]
    assert 0 < count(extract(passages, max_tokens=200, count=count)) <= 200


@pytest.mark.parametrize(
    "text",
    ["ferry boat pier " * 12_000, " " * 1_500_000 + "x", "\n \n" * 60_000 + "x", ", " * 100_000, "a/" * 100_000,
     ".\"'" * 60_000, "a" * 200_000, "汉" * 200_000, "x - " * 50_000, "".join(map(chr, range(33, 700))) * 300],
)  # fmt: skip
def test_the_work_grows_no_faster_than_the_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    gain = extract_module._Selection._gain

    def counted_gain(self: object, unit: object) -> float:
        nonlocal looks
        looks += 1
        return gain(self, unit)  # type: ignore[arg-type]  # the spy passes on what it is given

    monkeypatch.setattr(extract_module._Selection, "_gain", counted_gain)
    counted_chars = 0

    def counting(piece: str) -> int:
        nonlocal counted_chars
        counted_chars += len(piece)
        return len(piece.encode("utf-8", "surrogatepass")) // 4 + 1

    extract([Passage("tool", text)], max_tokens=500, count=counting)
    units = len(split_units(text)) + 1
    assert counted_chars <= 3 * len(text) + 200_000
    assert looks <= 50 * units


@settings(max_examples=sampled(60), deadline=None)
@given(
    st.lists(
        st.builds(Passage, speaker=st.sampled_from(["user", "tool", ""]), text=st.text(max_size=400)), max_size=12
    ),
    st.integers(1, 120),
)
def test_any_conversation_fits_any_room(passages: list[Passage], max_tokens: int) -> None:
    assert count(extract(passages, max_tokens=max_tokens, count=count)) <= max_tokens


@settings(max_examples=sampled(100), deadline=None)
@given(st.text(st.sampled_from("ab .,?\n。-é汉"), max_size=2_000))
def test_cutting_into_units_loses_nothing_but_space(text: str) -> None:
    units = split_units(text)
    assert "".join("".join(units).split()) == "".join(text.split())
    assert all(0 < len(unit) <= MAX_UNIT_CHARS for unit in units)


def test_wording_is_shortened_in_english_prose_and_nowhere_else() -> None:
    assert shorten("The boat is really at the pier, with a view.") == "boat is at pier, with view."
    assert shorten("Plan A is the one") == "Plan A is one"
    assert shorten("for a in the[0]: b = a") == "for a in the[0]: b = a"
    assert shorten("Er rief an und so weiter") == "Er rief an und so weiter"
    assert len(shorten("key " + "A1b2" * 100)) < 30


SAID = [
    "My locker code is 4711.",
    "The boat leaves at seven from pier nine.",
    "Call my sister Ines about the keys.",
    "I am allergic to walnuts.",
    "The password hint is the old street name.",
    "We meet on Thursday instead of Friday.",
    "The blue folder holds the lease.",
]
BABBLE = [
    "I'm sorry, but as an AI language model I cannot access personal information about lockers or safety boxes.",
    "I understand. It is important to remember that planning ahead can help you manage your time.",
    "Sure! I'd be happy to help. Communication with family members is an essential part of a healthy lifestyle.",
    "Thank you for sharing that. Please consult a professional such as Dr. Smith at the National Institute of Allergy.",
    "As an AI, I don't have access to passwords. However, here are 5 tips: use 12 characters and avoid dates like 1990.",
    "Great question! Conflicts occur in 45% of teams according to Harvard Business Review; consider Google Calendar.",
    "I apologize for the confusion. A lease is a binding agreement under Section 12 of the Housing Act 1988.",
]


@pytest.mark.parametrize("replies", [2, 3])
def test_what_a_user_said_comes_before_a_models_pleasantries(replies: int) -> None:
    """Small models answer a short fact with paragraphs of apologies and general knowledge."""
    talk = []
    for number, fact in enumerate(SAID):
        answer = " ".join(BABBLE[(number + offset) % len(BABBLE)] for offset in range(replies))
        talk += [Passage("User", fact), Passage("Assistant", answer)]
    text = extract(talk, max_tokens=sum(count(passage.text) for passage in talk) // 5, count=count)
    kept = [fact for fact in SAID if fact.split()[-1].strip(".") in text]
    assert len(kept) >= 5, text
    assert not text.startswith("Assistant: I'm sorry")
