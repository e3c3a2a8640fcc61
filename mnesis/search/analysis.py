"""Text analysis: the text that is indexed for a message, and the terms of a query. Pure functions, no I/O.

The full-text index stems words (Porter) and ignores their order. This module adds what the index lacks: scripts without
spaces are split into pairs of characters, compound identifiers are also indexed in pieces, and irregular English forms
are searched together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, pairwise

from mnesis.formats.text import message_text
from mnesis.models.message import Message, ToolPart, ToolResultPart

ANALYSIS_VERSION = 7
"""Increment it when the same message would be indexed differently: indexes of an older version are rebuilt."""

REPEATED_MARK = "\ue000"
"""A word that a message repeats is indexed again after this private-use character, which belongs to words for the index
(https://sqlite.org/fts5.html#unicode61_tokenizer): so ranking knows the number of occurrences, and the index needs no
positions."""
REPETITIONS = (2, 4)
"""A word with at least these numbers of occurrences is indexed with one mark, two marks and so on."""

MAX_QUERY_CHARS = 10_000
MAX_QUERY_TERMS = 128
"""A question of some sentences in a script without spaces has this many pairs of characters."""

LONG_QUERY_TERMS = 8
"""In a query with more terms, words that occur in any conversation count less."""
HALF_STOP_PAIR_WEIGHT = 0.7
"""The weight of a pair of characters of which one is a stop word, and which is often not a word. Chosen on the questions for fitting."""

_WORD = re.compile(r"[^\W_]+")
_LAST_WORD = re.compile(r"(?<![^\W_])[^\W_]{1,64}$")
_UNSPACED_SCRIPTS = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_UNSPACED_RUN = re.compile(f"[{_UNSPACED_SCRIPTS}]+")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CAMEL_WORD = re.compile(r"\b\w*[a-z0-9][A-Z]\w*")
_NUMBER_WITH_SEPARATORS = re.compile(r"(?<![\w.,])\d{1,3}(?:[.,'’\u00a0\u202f_]\d{3})+(?![\w])")
_COLOUR_CODE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|(?<!\w)\[\d{1,3}(?:;\d{1,3})*m|\[\d{1,3}(?:;\d{1,3})*m(?!\w)")
_SIGNS_INSIDE_WORDS = re.compile(
    "[\u00ad\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc]"
)
_EMOJI = re.compile("[\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]")
_COMPATIBILITY_CHARS = re.compile("[\ufb00-\ufb06\uff01-\uffef]+")
"""Latin ligatures, as in texts from PDF files, and full-width and half-width characters."""
_NUMBER_WITH_SPACES = re.compile(r"(?<![\w.,])\d{1,3}(?: \d{3})+(?!\w)")
_SPEAKER = re.compile(r"\s*([^\W\d_][\w .'’-]{0,30}?):\s")

_STOP_WORD_LIST = """a about above after again all also am an and any are aren as at be because been before being below between both
    but by can could couldn did didn do does doesn doing don down during each either else ever few for from further had
    hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just
    kind kinds ll many may me mention mentioned might more most much must my myself no nor not now of off on once one
    only or other our ours ourselves out over own per re recently said same say she should shouldn so some such tell than
    that the their theirs them themselves then there these they this those through to told too type types under until up
    upon us ve very was wasn we were weren what when where whether which while who whom whose why will with won would
    wouldn yet you your yours yourself yourselves"""
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())
"""English words that carry no information about the subject of a query.

The list of `stop-words` also has "bill", "computer" and "fire": with it, recall@5 on the questions for fitting falls by 2.8 points on
chats between people and by 7.9 on logs of agents.
"""

# Forms of one word that a stemmer does not unify, one group between bars. With the forms of each lemma that `simplemma` knows
# instead, recall@5 on the questions for fitting falls by 1.7 points on notes and 0.2 on chats, and grows by 0.3 on agents' logs.
_IRREGULAR_FORMS = """bear bore born borne|become became|begin began begun|bend bent|bite bit bitten|blow blew blown|break broke
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
class IndexEntry:
    """The search data of a message: the text for the index, and the fields that ranking needs."""

    text: str
    word_count: int
    speaker: str
    tool_names: str


def build_index_entry(message: Message) -> IndexEntry:
    """Build the search data of a message."""
    text = _replace_surrogates(message_text(message))
    tool_parts = (part for part in message.parts if isinstance(part, ToolPart | ToolResultPart))
    names = {part.tool_name for part in tool_parts if part.tool_name}
    return IndexEntry(
        to_index_text(text),
        count_words(text),
        speaker(message),
        _replace_surrogates("\n".join(sorted(names))),
    )


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which a database cannot store, with question marks."""
    return text.encode("utf-8", "replace").decode()


def to_index_text(text: str) -> str:
    """Convert text to the form that is indexed."""
    text = normalize(text)
    pieces = [_CAMEL_BOUNDARY.sub(" ", match) for match in _CAMEL_WORD.findall(text)]
    numbers = [join_digits(match) for match in _NUMBER_WITH_SEPARATORS.findall(text)]
    numbers += [join_digits(match) for match in _NUMBER_WITH_SPACES.findall(text)]
    emoji = [emoji_word(match) for match in _EMOJI.findall(text)]
    text = " ".join([_UNSPACED_RUN.sub(_space_out_bigrams, text), *pieces, *numbers, *emoji])
    counts = Counter(_WORD.findall(text.lower()))
    repeated = (
        REPEATED_MARK * level + word
        for word, count in counts.items()
        for level, least in enumerate(REPETITIONS, 1)
        if count >= least
    )
    return " ".join([text, *repeated])


def count_words(text: str) -> int:
    """Return the number of words of a text. In scripts without spaces, each pair of characters counts, as in the index."""
    text = normalize(text)
    pairs = sum(map(len, _UNSPACED_RUN.findall(text)))
    return len(_WORD.findall(_UNSPACED_RUN.sub(" ", text))) + pairs


def normalize(text: str) -> str:
    """Remove characters that are not part of words: colour codes of terminals, soft hyphens, and Arabic and Hebrew vowel signs.

    Ligatures, full-width and half-width characters are replaced by ordinary ones, and the Russian ё by е, as it is often written.
    """
    if text.isascii():
        return _COLOUR_CODE.sub(" ", text)
    text = _COMPATIBILITY_CHARS.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    return _SIGNS_INSIDE_WORDS.sub("", _COLOUR_CODE.sub(" ", text)).replace("ё", "е").replace("Ё", "Е")


def join_digits(number: str) -> str:
    """Remove the separators between the digits of a number."""
    return "".join(filter(str.isdigit, number))


def emoji_word(emoji: str) -> str:
    """Return the word that is indexed for an emoji, because the index takes emoji for spaces."""
    return f"emoji{ord(emoji):x}"


def _space_out_bigrams(run: re.Match[str]) -> str:
    # The last character is added, so that each character begins a word and can be looked up alone.
    return f" {' '.join(dict.fromkeys([*bigrams(run.group()), run.group()[-1]]))} "


def bigrams(run: str) -> list[str]:
    """Split a run of characters into overlapping pairs; a single character is returned unchanged."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def speaker(message: Message) -> str:
    """Return the speaker of a transcript line such as "Ada: …", in lower case, or "" if there is none."""
    match = _SPEAKER.match(message.text_content()[:60])
    return match[1].lower() if match else ""


def stop_words(text: str) -> frozenset[str]:
    """Return the stop words for a text: the English ones, and those of the language it has more stop words of."""
    from mnesis.search.word_lists import LANGUAGE_STOP_WORDS  # reads files

    words = frozenset(word.lower() for word in _WORD.findall(text[:MAX_QUERY_CHARS]))
    counts = {language: len(words & stop_words) for language, stop_words in LANGUAGE_STOP_WORDS.items()}
    language = max(counts, key=lambda language: counts[language])
    if counts[language] > max(1, len(words & STOP_WORDS)):
        return STOP_WORDS | LANGUAGE_STOP_WORDS[language]
    return STOP_WORDS


def _is_unspaced_stop_word(word: str) -> bool:
    """Return whether a word of a script without spaces, or each of its characters, is a stop word."""
    if word.isascii():
        return False
    from mnesis.search.word_lists import UNSPACED_STOP_WORDS  # reads files

    return word in UNSPACED_STOP_WORDS or (len(word) > 1 and all(char in UNSPACED_STOP_WORDS for char in word))


@lru_cache(maxsize=64)
def query_terms(query: str) -> tuple[tuple[str, ...], ...]:
    """Return the distinct words of a query in order, each with its irregular forms.

    Stop words are left out, unless the query has no other words.
    """
    text = _query_text(query)
    terms: dict[str, None] = {}
    for word in _WORD.findall(text):
        spaced = _UNSPACED_RUN.sub(" ", word.lower())
        terms.update(dict.fromkeys(spaced.split()))
        for run in _UNSPACED_RUN.findall(word):
            terms.update(dict.fromkeys(bigrams(run)))
    ignored = stop_words(text)
    significant_terms = [
        word
        for word in terms
        if word not in ignored and (len(word) > 1 or _UNSPACED_RUN.match(word)) and not _is_unspaced_stop_word(word)
    ]
    groups = (
        (word, *(form for form in _irregular_forms().get(word, ()) if form != word))
        for word in significant_terms or list(terms)
    )
    return tuple(islice(groups, MAX_QUERY_TERMS))


def term_weight(word: str, query_term_count: int) -> float:
    """Return the weight of a term in a query of `query_term_count` terms, at most 1.

    In a long query, words that occur in any conversation ("really", "probably") would outweigh those that name its
    subject.
    """
    from mnesis.search.word_lists import CONVERSATION_WORDS, UNSPACED_STOP_WORDS  # reads files

    if len(word) == 2 and _UNSPACED_RUN.match(word):
        return HALF_STOP_PAIR_WEIGHT if any(char in UNSPACED_STOP_WORDS for char in word) else 1.0
    if query_term_count > LONG_QUERY_TERMS and word in CONVERSATION_WORDS:
        return LONG_QUERY_TERMS / query_term_count
    return 1.0


def excerpt_terms(query: str) -> list[tuple[str, ...]]:
    """Return the words to look for in a text that matches a query: its terms, and the pieces of its identifiers."""
    pieces = identifier_pieces(query)
    emoji = {emoji_word(each): each for each in _EMOJI.findall(query[:MAX_QUERY_CHARS])}
    terms = [tuple(emoji.get(form, form) for form in forms) for forms in query_terms(query)]
    return [*terms, *((piece,) for forms in terms for piece in pieces.get(forms[0], ()))]


@lru_cache(maxsize=64)
def identifier_pieces(query: str) -> Mapping[str, tuple[str, ...]]:
    """Return the words of a query that have humps, in lower case, with their pieces."""
    words = _CAMEL_WORD.findall(_query_text(query))
    pieces = {word: _WORD.findall(_CAMEL_BOUNDARY.sub(" ", word).lower()) for word in words}
    return {word.lower().strip("_"): tuple(parts) for word, parts in pieces.items() if len(parts) > 1}


@lru_cache(maxsize=64)
def joined_words(query: str) -> Mapping[str, tuple[str, ...]]:
    """Return for each word of a query the words that result from joining it with the word before or after it."""
    words = [word.lower() for word in _WORD.findall(_query_text(query))][: 4 * MAX_QUERY_TERMS]
    joined: dict[str, tuple[str, ...]] = {}
    for first, second in pairwise(words):
        for word in (first, second):
            joined[word] = (*joined.get(word, ()), first + second)
    return joined


def _query_text(query: str) -> str:
    beginning = query[:MAX_QUERY_CHARS]
    if len(query) > MAX_QUERY_CHARS:
        beginning = _LAST_WORD.sub("", beginning)  # a part of a word is a different word
    text = normalize(beginning.encode("utf-8", "replace").decode())
    text = _NUMBER_WITH_SEPARATORS.sub(lambda match: join_digits(match.group()), text)
    return _EMOJI.sub(lambda match: f" {emoji_word(match.group())} ", text)


@cache
def _irregular_forms() -> dict[str, tuple[str, ...]]:
    groups = [tuple(group.split()) for group in _IRREGULAR_FORMS.split("|")]
    return {word: group for group in groups for word in group}
