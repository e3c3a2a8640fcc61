"""Messages and questions as words: what is indexed, and what a question looks for.

The index stems words (Porter) and knows no order. What it cannot do is done here: scripts without spaces are cut into
pairs of characters, compound identifiers are also indexed in pieces, irregular English forms are looked for together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice

from mnesis.formats.text import readable
from mnesis.models.message import Message, ToolPart, ToolResultPart

RULES_VERSION = 2
"""Goes up when the same message would be indexed otherwise: older indexes are made anew."""

MAX_QUESTION_CHARS = 10_000
MAX_QUESTION_WORDS = 32

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CAMEL = re.compile(r"\b\w*[a-z0-9][A-Z]\w*")
_SPEAKER = re.compile(r"\s*([^\W\d_][\w .'’-]{0,30}?):\s")

_SAY_NOTHING = """a about above after again all also am an and any are aren as at be because been before being below between both
    but by can could couldn did didn do does doesn doing don down during each either else ever few for from further had
    hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just
    kind kinds ll many may me mention mentioned might more most much must my myself no nor not now of off on once one
    only or other our ours ourselves out over own per re recently said same say she should shouldn so some such tell than
    that the their theirs them themselves then there these they this those through to told too type types under until up
    upon us ve very was wasn we were weren what when where whether which while who whom whose why will with won would
    wouldn yet you your yours yourself yourselves"""
STOP_WORDS = frozenset(_SAY_NOTHING.split())

# Forms of one word that no stemmer brings together.
_IRREGULAR = """bear bore born borne|become became|begin began begun|bend bent|bite bit bitten|blow blew blown|break broke
broken|bring brought|build built|buy bought|catch caught|child children|choose chose chosen|come came|deal dealt|draw drew
drawn|dream dreamt|drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt|fight fought|find
found|fly flew flown|foot feet|forget forgot forgotten|forgive forgave forgiven|freeze froze frozen|get got gotten|give gave
given|go went gone|good better best|bad worse worst|grow grew grown|hear heard|hide hid hidden|hold held|keep kept|know knew
known|lead led|learn learnt|leave left|lend lent|life lives|light lit|lose lost|make made|man men|mean meant|meet met|mouse
mice|pay paid|person people|ride rode ridden|rise rose risen|run ran|see saw seen|seek sought|sell sold|send sent|shake shook
shaken|shine shone|show shown|sing sang sung|sit sat|sleep slept|speak spoke spoken|spend spent|stand stood|steal stole
stolen|stick stuck|strike struck|swear swore sworn|sweep swept|swim swam swum|take took taken|teach taught|tear tore
torn|think thought|throw threw thrown|tooth teeth|understand understood|wake woke woken|wear wore worn|weep wept|wife
wives|win won|woman women|write wrote written"""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What is kept of a message for searching: the text that goes into the index, and what ranking needs to know."""

    text: str
    words: int
    speaker: str
    tools: str


def indexed(message: Message) -> Indexed:
    """What to keep of a message for searching."""
    said = _storable(readable(message))
    parts = (part for part in message.parts if isinstance(part, ToolPart | ToolResultPart))
    names = {part.tool_name for part in parts if part.tool_name}
    return Indexed(searchable(said), len(_WORD.findall(said)), speaker(message), _storable("\n".join(sorted(names))))


def _storable(text: str) -> str:
    """Lone surrogates, which a database cannot hold, become question marks."""
    return text.encode("utf-8", "replace").decode()


def searchable(text: str) -> str:
    """Text as it goes into the index."""
    pieces = [_HUMP.sub(" ", match) for match in _CAMEL.findall(text)]
    return " ".join([_UNSPACED_RUN.sub(_pairs, text), *pieces])


def _pairs(run: re.Match[str]) -> str:
    return f" {' '.join(pairs_of(run.group()))} "


def pairs_of(run: str) -> list[str]:
    """A run of characters that sets no spaces, as overlapping pairs."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def speaker(message: Message) -> str:
    """Who speaks, in lower case, where a message begins with a name and a colon, as transcripts do; else ""."""
    match = _SPEAKER.match(message.text_content()[:60])
    return match[1].lower() if match else ""


@lru_cache(maxsize=64)
def question_words(question: str) -> tuple[tuple[str, ...], ...]:
    """What a question looks for: words, each with its irregular forms, in order, each once.

    Words that say nothing are left out, unless there is nothing else.
    """
    found: dict[str, None] = {}
    for word in _WORD.findall(question[:MAX_QUESTION_CHARS].encode("utf-8", "replace").decode()):
        spaced = _UNSPACED_RUN.sub(" ", word.lower())
        found.update(dict.fromkeys(spaced.split()))
        for run in _UNSPACED_RUN.findall(word):
            found.update(dict.fromkeys(pairs_of(run)))
    telling = [word for word in found if word not in STOP_WORDS and len(word) > 1] or list(found)
    groups = ((word, *(form for form in _forms().get(word, ()) if form != word)) for word in telling)
    return tuple(islice(groups, MAX_QUESTION_WORDS))


@cache
def _forms() -> dict[str, tuple[str, ...]]:
    groups = [tuple(group.split()) for group in _IRREGULAR.split("|")]
    return {word: group for group in groups for word in group}
