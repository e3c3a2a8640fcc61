"""Estimate tokens from runs of similar characters, for models without a known encoding.

Pure functions, no I/O.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

_RUN = re.compile(
    r"(?P<repeat>(.)\2{15,})"
    r"|(?P<hex>[0-9a-f]{32,}|[0-9A-F]{32,})"
    r"|(?P<blob>[A-Za-z0-9+/_=-]{40,})"
    r"|(?P<word>[A-Za-z\u00c0-\u024f]+(?:'(?:[sdmt]|ll|ve|re)\b)?)"
    r"|(?P<digits>\ ?[0-9]+)"
    r"|(?P<mark>[!-/:-@\[-`{-~]+[\r\n]*)"
    r"|(?P<break>[ \t]*[\r\n]+)"
    r"|(?P<space>[^\S\r\n]+)"
    r"|(?P<thai>[\u0e00-\u0eff]+)"
    r"|(?P<letters>[\u0250-\u0fff]+)"
    r"|(?P<cjk>[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)"
    r"|(?P<hangul>[\uac00-\ud7af]+)"
    r"|(?P<punctuation>[\u2010-\u203f\u3000-\u303f\uff00-\uff20])"
    r"|(?P<other>.)",
    re.DOTALL,
)


def heuristic_tokens(text: str) -> int:
    """Estimate the `o200k_base` tokens of a text from runs of similar characters.

    The factors are fitted to prose in eleven languages, source code, markup, logs, tables and encoded data. On such texts
    the estimate is within about 20 % of the true count.
    """
    return math.ceil(sum(_RUN_TOKENS[run.lastgroup or "other"](run.group()) for run in _RUN.finditer(text)))


def _repeat_tokens(run: str) -> float:
    if not run[0].isascii():
        return len(run) * 0.7
    return 1 + len(run) / (8 if run[0].isalnum() else 64)


def _blob_tokens(run: str) -> float:
    is_encoded = any(c.isdigit() for c in run) and not run.islower() and not run.isupper()
    return len(run) * (0.7 if is_encoded else 0.35)


_RUN_TOKENS: dict[str, Callable[[str], float]] = {
    "repeat": _repeat_tokens,
    "hex": lambda run: len(run) * 0.57,
    "blob": _blob_tokens,
    "word": lambda run: max(1.0, len(run) / 6.2),
    # A space before a word is part of its token; before digits it is a separate token.
    "digits": lambda run: math.ceil(len(run.lstrip()) / 3) + (run[0] == " "),
    "mark": lambda run: 0.8 + (len(run) - 1) / 6,
    "break": lambda run: 1 + len(run) / 80,
    "space": lambda run: 0 if len(run) == 1 else 1 + len(run) / 80,
    "thai": lambda run: len(run) * 0.4,
    "letters": lambda run: max(1.0, len(run) * 0.3),
    "cjk": lambda run: len(run) * 0.72,
    "hangul": lambda run: len(run) * 0.65,
    "punctuation": lambda run: 0.9,
    "other": lambda run: 1.5,
}
