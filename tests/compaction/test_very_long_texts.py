"""A message of many megabytes costs about as much to fold as to count, and its needles are still found."""

from __future__ import annotations

import random

import pytest

from mnesis.compaction import extract as extract_module
from mnesis.compaction.extract import Passage, extract
from mnesis.compaction.preselect import MAX_WHOLE_CHARS, SCORED_CHARS, preselect
from mnesis.tokens import estimator
from mnesis.tokens.encodings import load_encoding

NEEDLE = "The deploy of zanzibar-7 failed because port 5433 was blocked by Nadia."


def log_lines(chars: int, seed: int = 1) -> str:
    chooser, lines, length = random.Random(seed), [], 0
    while length < chars:
        lines.append(f"2026-01-02T03:04:{len(lines) % 60:02d} worker-{chooser.randrange(9)} INFO request took 17 ms")
        length += len(lines[-1]) + 1
    return "\n".join(lines)


def with_needle(text: str) -> str:
    return f"{text[: len(text) // 3]}\n{NEEDLE}\n{text[len(text) // 3 :]}"


def count_words(text: str) -> int:
    return len(text.split())


def test_texts_of_a_megabyte_are_scored_whole() -> None:
    text = log_lines(MAX_WHOLE_CHARS - 100)[: MAX_WHOLE_CHARS - 100]
    assert [[segment.text for segment in each] for each in preselect([text, "short"])] == [[text], ["short"]]


def test_longer_texts_keep_their_ends_and_their_rare_words_in_order() -> None:
    text = f"first words\n{with_needle(log_lines(3_000_000))}\nlast words"
    (segments,) = preselect([text])
    assert sum(len(segment.text) for segment in segments) <= SCORED_CHARS + 1_000
    assert segments[0].text.startswith("first words")
    assert not segments[0].follows_gap
    assert all(segment.follows_gap for segment in segments[1:])
    assert segments[-1].text.endswith("last words")
    assert any(NEEDLE in segment.text for segment in segments)
    positions = [text.index(segment.text) for segment in segments if NEEDLE in segment.text]
    assert positions
    assert segments == preselect([text])[0]


def test_the_work_on_a_long_message_does_not_grow_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    features = extract_module.features
    monkeypatch.setattr(extract_module, "features", lambda text: scored.append(len(text)) or features(text))
    for chars in (2_000_000, 6_000_000):
        del scored[:]
        text = extract([Passage("tool", with_needle(log_lines(chars)))], max_tokens=200, count=count_words)
        assert "zanzibar-7" in text
        assert sum(scored) <= SCORED_CHARS + 2_000


def test_what_lies_between_selected_blocks_is_marked_as_left_out() -> None:
    passages = [Passage("tool", f"Alpha starts.\n{log_lines(2_000_000)}\nOmega ends with rare-word-99.")]
    text = extract(passages, max_tokens=60, count=count_words)
    assert "…" in text


class CountingEncoding:
    """A tokenizer of words that notes what it was given."""

    def __init__(self) -> None:
        self.chars: list[int] = []

    def encode_ordinary(self, text: str) -> list[str]:
        self.chars.append(len(text))
        return text.split()


def test_counting_many_megabytes_reads_a_sample_of_half_a_megabyte() -> None:
    for chars in (2_000_000, 8_000_000):
        encoding = CountingEncoding()
        estimator._encoded_tokens("word " * (chars // 5), encoding)  # type: ignore[arg-type]  # has the one method used
        assert sum(encoding.chars) == estimator.SAMPLED_CHUNKS * estimator.SAMPLED_CHUNK_CHARS


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (log_lines(1_500_000), 0.03),
        ("".join(random.Random(2).choices("etaoin shrdlu,.", k=1_500_000)), 0.03),
        (log_lines(800_000) + "".join(random.Random(3).choices("ABCDEFGHIJ0123456789+/", k=800_000)), 0.2),
    ],
    ids=["logs", "letters", "logs and encoded data"],
)
def test_an_estimate_is_not_below_the_count_and_within_its_bound(text: str, bound: float) -> None:
    encoding = load_encoding("o200k_base")
    if encoding is None:
        pytest.skip("no tokenizer table on this disk")
    exact = sum(len(encoding.encode_ordinary(chunk)) for chunk in estimator.split_text(text))
    assert exact * 0.999 <= estimator._encoded_tokens(text, encoding) <= exact * (1 + bound)
