"""The input of a summarizing model: the source in texts that fit, and the messages of one call.

Pure functions, except that prompts are read from the package.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources

from mnesis.compaction.extract import Passage
from mnesis.compaction.transcript import transcript_text
from mnesis.formats.openai import replace_lone_surrogates
from mnesis.tokens.estimator import TokenCounter, split_text

WORDS_PER_TOKEN = 0.6
"""Models are asked for words, since they cannot count tokens. English prose has about 0.75 words per token."""

PASSAGE_OVERHEAD_TOKENS = 8
"""Tokens for the speaker's name and the blank line between passages."""


def build_prompt(
    text: str,
    condenses_summaries: bool,
    level: int,
    target_tokens: int,
    instructions: str | None = None,
    previous: str = "",
    focus: str = "",
) -> list[dict[str, str]]:
    """Build the messages of one call. `previous` is the summary of the messages before the record, or "". `focus` names
    what to keep above all.

    The record's boundary is a hash of the record, so the record cannot contain it.
    """
    text = replace_lone_surrogates(text)
    boundary = f"=== {hashlib.sha256(text.encode()).hexdigest()[:16]} ==="
    words = max(int(target_tokens * WORDS_PER_TOKEN), 20)
    if instructions is None:
        instructions = load_prompt("condense" if condenses_summaries else "level", level)
        instructions = instructions.replace("{boundary}", boundary).replace("{words}", str(words))
    reference = _reference(previous, text) if previous else ""
    if focus:
        reference += f"Above all, keep everything that concerns: {replace_lone_surrogates(' '.join(focus.split()))}\n\n"
    return [
        {"role": "system", "content": instructions},
        {"role": "user", "content": f"{boundary}\n{text}\n{boundary}\n\n{reference}Use at most about {words} words."},
    ]


def _reference(previous: str, text: str) -> str:
    previous = replace_lone_surrogates(previous)
    boundary = f"=== {hashlib.sha256((previous + text).encode()).hexdigest()[:16]} ==="
    return (
        "For reference only, the summary of what came before the record. Do not repeat it; say what the record changes.\n"
        f"{boundary}\n{previous}\n{boundary}\n\n"
    )


def cut_to_fit(text: str, max_tokens: int, count: TokenCounter) -> str:
    """Return a text, or its beginning if it is longer than `max_tokens`."""
    tokens = count(text) if text else 0
    if tokens <= max_tokens:
        return text
    return next(iter(split_text(text, max(len(text) * max_tokens // tokens, 1))), "")


@functools.cache
def load_prompt(kind: str, level: int) -> str:
    """Return a prompt of the package."""
    return resources.files("mnesis.compaction").joinpath("prompts", f"{kind}{level}.md").read_text("utf-8")


def split_passages(passages: Sequence[Passage], max_tokens: int, count: TokenCounter) -> Iterator[str]:
    """Join the passages to texts of about `max_tokens` at most.

    Longer passages are split; nothing is dropped.
    """
    batch: list[Passage] = []
    batch_tokens = 0
    for passage in passages:
        for piece in _split_passage(passage, max_tokens, count):
            tokens = count(piece.text) + PASSAGE_OVERHEAD_TOKENS
            if batch and batch_tokens + tokens > max_tokens:
                yield transcript_text(batch)
                batch, batch_tokens = [], 0
            batch.append(piece)
            batch_tokens += tokens
    if batch:
        yield transcript_text(batch)


def _split_passage(passage: Passage, max_tokens: int, count: TokenCounter) -> Iterator[Passage]:
    """Split a passage into pieces that fit, at white space where possible.

    Pieces get shorter, so the recursion ends.
    """
    available_tokens, tokens = max(max_tokens - PASSAGE_OVERHEAD_TOKENS, 1), count(passage.text)
    if tokens <= available_tokens or len(passage.text) < 2:
        yield passage
        return
    max_chars = -(-len(passage.text) // -(-tokens // available_tokens))
    for text in split_text(passage.text, max_chars):
        yield from _split_passage(replace(passage, text=text), max_tokens, count)
