"""Automatic recall: originals relevant to a user message, inserted right before it. Off by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter

from mnesis.config import RecallConfig
from mnesis.context.markers import MAX_CHARS_PER_TOKEN, excerpt
from mnesis.ids import now_ms
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import Message, TextPart
from mnesis.models.search import Search
from mnesis.recall.fence import message_header, quotable_text, quote
from mnesis.search.analysis import STOP_WORDS, excerpt_terms, query_terms
from mnesis.search.query_time import read_query_time
from mnesis.search.snippets import TermMatch, find_matches, passages_excerpt, term_weights, weigh_matches
from mnesis.store.base import Store
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter

MIN_ENTRY_TOKENS = 40
"""The tokens of a short message with its header, from which the number of candidates follows."""
MIN_SCORE_FRACTION = 0.2
"""Hits with a smaller fraction of the best score are left out: they would only use up tokens. Chosen by trial."""
BEST_MESSAGES = 3
MAX_MESSAGE_FRACTION = 0.4
BEST_MESSAGE_FRACTION = 0.2
OTHER_MESSAGE_FRACTION = 0.045
MIN_PASSAGE_TOKENS = 120
"""Each of the best messages takes this fraction of the budget, or more if there are few candidates. Others take less,
but at least a passage. Many of them then fit, because it is uncertain which one has the answer. Chosen on the questions
for fitting."""
FOCUS_FACTOR = 2.0
"""The factor for the score of a message with a word of the session's focus."""
FOCUS_CANDIDATES = 100
"""The minimum number of candidates if there is a focus."""
STRETCH_MESSAGES = 3
"""Messages at most this far apart count as one topic."""
BLOCK_TITLE = "Recalled from earlier in this conversation"


@dataclass(frozen=True)
class _Candidate:
    """A message that may be recalled for the terms of a query."""

    message: Message
    terms: Sequence[Sequence[str]]
    score: float

    @cached_property
    def text(self) -> str:
        return quotable_text(self.message)

    @cached_property
    def matches(self) -> Sequence[TermMatch]:
        """The positions of the terms in the text. Finding them takes a few milliseconds per megabyte, so they are
        computed only when needed.
        """
        return find_matches(self.text, self.terms)


def pending_user_message(messages: Sequence[Message]) -> Message | None:
    """Return the user message that awaits an answer, or None if there is none."""
    for message in reversed(messages):
        if message.role == "user" and not message.is_summary:
            return message if any(isinstance(part, TextPart) for part in message.parts) else None
        if message.role == "assistant" and not message.tool_calls:
            return None
    return None


def asked_at(message: Message | None) -> datetime:
    """Return the time of a question: that of its message, or the current time if it is not stored yet."""
    milliseconds = message.created_at if message is not None else now_ms()
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(now_ms() / 1000, UTC)


async def build_recall_block(
    store: Store,
    context: ActiveContext,
    window: Window,
    query: str,
    config: RecallConfig,
    count: TokenCounter,
    now: datetime,
    focus: str = "",
) -> Message | None:
    """Build a message with the originals that match the query and that the window does not show, or None if there are none.

    It has at most `config.max_tokens`, and never more than the window's unused tokens. `now` is the time of the query.
    Originals with words of the `focus` are preferred.
    """
    hides_content = bool(context.covers or context.prunes or window.omitted)
    is_about_time = read_query_time(query, now).is_only_time
    if not hides_content or not (is_about_time or _has_content_words(query)):
        return None
    available_tokens = min(config.max_tokens, window.budget_tokens - window.tokens)
    session_id = context.session.id
    max_candidates = min(max(available_tokens // MIN_ENTRY_TOKENS, 1), config.max_messages)
    # The focus may lift a message that the query alone would leave out.
    max_hits = max(max_candidates, FOCUS_CANDIDATES) if focus.strip() else max_candidates
    page = await store.search(Search(query, session_id, limit=max_hits + len(window.messages), now=now))
    pruned_seqs = {key[0] for key in context.prunes}
    shown_ids = {m.id for m in window.messages if not m.is_summary and m.seq not in pruned_seqs}
    hits = [hit for hit in page if hit.message_id not in shown_ids]
    terms = excerpt_terms(query)
    candidates = [
        _Candidate(await store.message(session_id, hit.message_id), terms, hit.score) for hit in hits[:max_hits]
    ]
    candidates = _without_weak(candidates, MIN_SCORE_FRACTION * page[0].score if page else 0.0)
    if focus.strip():
        candidates = _prefer(candidates, excerpt_terms(focus))[:max_candidates]
    return _fill_block(spread(candidates), available_tokens, count)


def _without_weak(candidates: Sequence[_Candidate], least_score: float) -> list[_Candidate]:
    """Leave out candidates below a score, except for the best one with a term that no better one has.

    One part of a question may have a single word, and the other part many.
    """
    kept: list[_Candidate] = []
    terms: set[int] = set()
    for candidate in candidates:
        new_terms = {match.term for match in candidate.matches} - terms
        if candidate.score >= least_score or new_terms:
            kept.append(candidate)
            terms |= new_terms
    return kept


def _prefer(candidates: Sequence[_Candidate], focus_terms: Sequence[Sequence[str]]) -> list[_Candidate]:
    """Order candidates by their scores, which count more for messages with a term of the focus."""

    def focus_factor(candidate: _Candidate) -> float:
        text = candidate.text.lower()
        return FOCUS_FACTOR if any(form in text for forms in focus_terms for form in forms) else 1.0

    return _order(candidates, focus_factor)


def _order(candidates: Sequence[_Candidate], factor: Callable[[_Candidate], float]) -> list[_Candidate]:
    """Order candidates by their scores, multiplied by a factor."""
    scored = (replace(candidate, score=candidate.score * factor(candidate)) for candidate in candidates)
    return sorted(scored, key=attrgetter("score"), reverse=True)


def spread(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Order candidates, best first, so that each term gets evidence.

    Until every term that any candidate has is found, a further hit of the same stretch waits, unless it has a term that is
    still missing.
    """
    missing = {match.term for candidate in candidates for match in candidate.matches}
    first: list[_Candidate] = []
    deferred: list[_Candidate] = []
    for number, candidate in enumerate(candidates):
        if not missing:
            return [*first, *sorted([*deferred, *candidates[number:]], key=attrgetter("score"), reverse=True)]
        seq, terms = candidate.message.seq, {match.term for match in candidate.matches}
        if not terms & missing and any(abs(seq - other.message.seq) <= STRETCH_MESSAGES for other in first):
            deferred.append(candidate)
            continue
        first.append(candidate)
        missing -= terms
    return [*first, *deferred]


def insert_before(window: Window, block: Message, before: Message | None) -> Window:
    """Return the window with the block inserted before a message, or at the end if that is None."""
    ids = [message.id for message in window.messages]
    index = ids.index(before.id) if before is not None else len(ids)
    messages = (*window.messages[:index], block, *window.messages[index:])
    return replace(window, messages=messages, tokens=window.tokens + block.token_count)


def _has_content_words(query: str) -> bool:
    return any(forms[0] not in STOP_WORDS for forms in query_terms(query))


def _fill_block(candidates: Sequence[_Candidate], available_tokens: int, count: TokenCounter) -> Message | None:
    """Build a block of as many candidates, best first, as fit. It shows them in log order."""
    if not candidates:
        return None
    remaining_tokens = available_tokens - MESSAGE_OVERHEAD_TOKENS - count(quote(BLOCK_TITLE, [""]))
    entries: dict[int, str] = {}
    # In a long message, passages with terms that few candidates have come first.
    weights = term_weights([candidate.matches for candidate in candidates], len(candidates[0].terms))
    for rank, candidate in enumerate(candidates):
        if remaining_tokens < MIN_ENTRY_TOKENS:
            break
        text = _shorten(candidate, weights, _max_entry_tokens(rank, len(candidates), available_tokens), count)
        entry = f"{message_header(candidate.message)}\n{text}"
        if (tokens := count(entry) + 1) <= remaining_tokens:
            entries[candidate.message.seq] = entry
            remaining_tokens -= tokens
    # Tokens of pieces do not add up exactly, so the block is counted whole.
    while entries and (block := _build_message(entries, count)).token_count > available_tokens:
        entries.popitem()
    return block if entries else None


def _max_entry_tokens(rank: int, candidate_count: int, available_tokens: int) -> int:
    """Return the tokens that the text of a candidate may take; the best has rank 0."""
    best_fraction = min(MAX_MESSAGE_FRACTION, max(BEST_MESSAGE_FRACTION, 1 / candidate_count))
    if rank < BEST_MESSAGES:
        return int(available_tokens * best_fraction)
    others = candidate_count - BEST_MESSAGES
    fraction = max(OTHER_MESSAGE_FRACTION, (1 - BEST_MESSAGES * best_fraction) / others)
    return max(int(available_tokens * fraction), MIN_PASSAGE_TOKENS)


def _shorten(candidate: _Candidate, weights: Sequence[float], max_tokens: int, count: TokenCounter) -> str:
    """Return a message whole if it fits, else its passages for the terms, or else its head and tail."""
    text, message_id = candidate.text, candidate.message.id
    if len(text) <= max_tokens or (len(text) <= MAX_CHARS_PER_TOKEN * max_tokens and count(text) <= max_tokens):
        return text
    passages = passages_excerpt(text, weigh_matches(candidate.matches, weights), max_tokens, count, message_id)
    return passages or excerpt(text, max_tokens, count, message_id)


def _build_message(entries: dict[int, str], count: TokenCounter) -> Message:
    text = quote(BLOCK_TITLE, (entries[seq] for seq in sorted(entries)))
    mark = text.rpartition("[")[2].rstrip("]")
    return Message(
        id=f"recalled_{mark}",
        role="user",
        parts=(TextPart(text=text),),
        token_count=count(text) + MESSAGE_OVERHEAD_TOKENS,
    )
