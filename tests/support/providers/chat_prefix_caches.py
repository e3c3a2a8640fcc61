"""Automatic prefix caches of chat completions APIs."""

from __future__ import annotations

from tests.support.providers.strict_server import common_prefix_chars, count_tokens


class PrefixCache:
    """Automatic prefix caching: the longest prefix that an earlier request of the model shares."""

    def __init__(self) -> None:
        self._prompts: list[tuple[str, str, float]] = []

    def use(self, model: str, prompt: str, now: float, lifetime_seconds: float | None) -> int:
        """Return the shared tokens and remember the prompt."""
        live = [entry for entry in self._prompts if lifetime_seconds is None or now - entry[2] < lifetime_seconds]
        shared = max((common_prefix_chars(prompt, text) for owner, text, _ in live if owner == model), default=0)
        self._prompts = [*live, (model, prompt, now)]
        return count_tokens(prompt[:shared])


class PrefixUnits:
    """DeepSeek's cache: a request hits only a whole unit (api-docs.deepseek.com/guides/kv_cache).

    Units end at the end of a prompt, at the end of a reply, and where two requests part.
    """

    def __init__(self) -> None:
        self._units: set[str] = set()
        self._prompts: list[str] = []

    def use(self, prompt: str, reply: str) -> int:
        """Return the tokens of the longest unit that the prompt starts with, and store the new units."""
        hit = max((len(unit) for unit in self._units if prompt.startswith(unit)), default=0)
        shared = max((common_prefix_chars(prompt, earlier) for earlier in self._prompts), default=0)
        self._prompts.append(prompt)
        self._units |= {prompt, prompt + reply, prompt[:shared]} - {""}
        return count_tokens(prompt[:hit])
