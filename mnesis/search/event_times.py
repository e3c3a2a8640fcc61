"""Events that a query uses as a time: "before the trip", "nach dem Umzug". Pure functions, no I/O.

An event has no date itself; the store looks for the message that is about it, and its time counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnesis.search.time_words import plain_text

MAX_SCANNED_CHARS = 2_000
"""The maximum length of a query: people ask short questions, and longer texts are data."""
MAX_EVENT_WORDS = 6

_BEFORE = r"before|prior to|bevor|vor|avant|antes del?"
_AFTER = r"after|since|nachdem|nach|seit|apres|depuis|despues del?|desde"
# An article, a possessive, a subject or a verb, so that "before lunch" and "after all" are not events of the log. "del" contains
# an article.
_ARTICLE = (
    r"(?:the|our|my|your|his|her|their|this|that|de[rmns]|die|das|uns[e]r\w*|mein\w*|sein\w*|ihr\w*|le|la|les|notre|mon|ma|son"
    r"|sa|leur|el|los|las|mi|su|nuestr[oa]|(?:i|we|you|he|she|they|ich|wir|sie|er)(?=(?:\s+[\w'-]+){2}))\s+|l'|(?<=del )"
    r"|(?=(?!morning|evening|everything|anything|something|nothing|during)\w{3,}ing\s+(?:the|a|an|our|my|your|his|her|their|in|to|with)\s)"
)
# "Look after the cat" and "suchen nach dem Buch" do not name a time.
_NO_TIME = re.compile(r"(?:look|ask|name|naming|tak|such|frag|sehn|riech|gesuch|gefrag)\w*\s+$")
# The text after the event in the question.
_END = r"(?=\s*(?:[?.!,;:]|$)|\s+(?:what|who|where|when|which|why|how|did|do|does|was|were|had|has|is|are|we|i|you|and|was|wer|wo)\b)"
_LATIN = re.compile(
    rf"\b(?:(?P<before>{_BEFORE})|(?P<after>{_AFTER}))\s+(?:{_ARTICLE})"
    rf"(?P<event>[\w'-]+(?:\s+[\w'-]+){{0,{MAX_EVENT_WORDS - 1}}}?){_END}"
)
_CHINESE = re.compile(r"(?P<event>[\u3400-\u9fff]{2,8}?)(?:(?P<before>之前|以前)|(?P<after>之后|以后))")


@dataclass(frozen=True, slots=True)
class EventMention:
    """An event in a query, its place there, and whether the time before or after it is meant."""

    text: str
    is_before: bool
    start: int
    end: int


def find_event(query: str) -> EventMention | None:
    """Return the first event that a query uses as a time, or None."""
    text = plain_text(query[:MAX_SCANNED_CHARS])
    matches = (*_LATIN.finditer(text), *_CHINESE.finditer(text))
    match = next((match for match in matches if not _NO_TIME.search(text[: match.start()])), None)
    if match is None:
        return None
    event = query[match.start("event") : match.end("event")]
    return EventMention(event, match["before"] is not None, match.start(), match.end())
