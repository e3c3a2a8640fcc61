"""Stop words of languages, from the library `stop-words`.

It reads files when it is imported and for each language. Import this module in a thread before a coroutine uses it: see
`mnesis.concurrency.import_in_thread`.
"""

from __future__ import annotations

from stop_words import get_stop_words

STOP_WORD_LANGUAGES = ("german", "french", "spanish", "italian", "portuguese", "dutch", "russian")
"""Languages whose stop words are left out of queries in that language."""
LANGUAGE_STOP_WORDS = {language: frozenset(get_stop_words(language)) for language in STOP_WORD_LANGUAGES}
UNSPACED_STOP_WORDS = frozenset(get_stop_words("chinese") + get_stop_words("japanese"))
"""Stop words of scripts without spaces. The Korean list has "child" and "time"."""
CONVERSATION_WORDS = frozenset(get_stop_words("english"))
"""English words that say little about the subject of a text. Some of them matter in a short question: "computer",
"fire", "bill"."""
