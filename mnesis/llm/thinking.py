"""Thinking before an answer: tokens for it, and its removal from answers that contain it.

Pure functions, no I/O.

Open models think in `<think>…</think>`. Their server moves thinking to a separate field only if it was started with a
matching parser (docs.vllm.ai, reasoning outputs); litellm removes complete pairs and leaves the others.
"""

from __future__ import annotations

import re

REASONING_HEADROOM_TOKENS = 8_192
"""Tokens for reasoning, which providers count as output. OpenAI advises reserving tokens for it (platform.openai.com,
reasoning); the default efforts spend a few thousand tokens on a summary."""

MIN_ANSWER_TOKENS = 256
"""A tighter limit would cut an answer in the middle of a sentence."""

_NAMES = r"(?:think|thinking|thought|reasoning)"
_FLAGS = re.DOTALL | re.IGNORECASE | re.MULTILINE
# Magistral writes [THINK] (docs.mistral.ai, capabilities/reasoning).
_PAIR = re.compile(rf"^[ \t]*[<\[]({_NAMES})[>\]].*?[<\[]/\1[>\]]", _FLAGS)
_OPEN = re.compile(rf"^[ \t]*[<\[]{_NAMES}[>\]].*\Z", _FLAGS)
_CLOSE = re.compile(rf"\A.*?(?:^[ \t]*[<\[]/{_NAMES}[>\]]|[<\[]/{_NAMES}[>\]][ \t]*$)", _FLAGS)


def strip_thinking(text: str) -> str:
    """Return an answer without the thinking in it.

    A tag counts at the beginning of a line, a closing one also at the end; elsewhere it is text about tags. If thinking
    is never closed, everything after it belongs to it: the answer was cut. If there is only a closing tag, everything
    before it is thinking, because the chat template wrote the opening tag.
    """
    return _CLOSE.sub("", _OPEN.sub("", _PAIR.sub("", text))).strip()


def max_output_tokens(answer_tokens: int, limit_tokens: int | None = None) -> int:
    """Return the output limit of a call whose answer takes `answer_tokens`: with headroom for reasoning.

    `limit_tokens` is the largest output that the model allows. It never reduces the tokens for the answer itself.
    """
    answer_tokens = max(answer_tokens, MIN_ANSWER_TOKENS)
    wanted_tokens = answer_tokens + REASONING_HEADROOM_TOKENS
    return wanted_tokens if limit_tokens is None else max(min(wanted_tokens, limit_tokens), answer_tokens)
