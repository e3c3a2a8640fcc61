"""Blanking of secrets in texts that providers and libraries hand us."""

from __future__ import annotations

import re

_SECRETS = (
    re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|glpat)[-_][\w*.\-]{6,}"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"),
    re.compile(r"\bAIza[\w\-]{20,}"),
    re.compile(r"(?i)\b(?:bearer|authorization\W+basic)\s+(?P<value>[\w.~+/*\-]{8,}=*)"),
    re.compile(
        r"""(?ix) (?: api[-_ ]?key(?:\ provided)? | token | secret(?:[-_]\w+)* | password | (?<=[?&])key )
        ["']? \s* [=:] \s* ["']? (?P<value> [^\s"'&,;}]{8,} )"""
    ),
)


def redact(text: str) -> str:
    """`text` with API keys, bearer tokens and the like replaced by `[redacted]`.

    Known are keys by their prefix (sk-…, AKIA…, AIza…), credentials of an Authorization header, and whatever stands
    behind a name such as `api_key=`, `"token": ` or `?key=`.
    """
    for pattern in _SECRETS:
        text = pattern.sub(_blanked, text)
    return text


def _blanked(match: re.Match[str]) -> str:
    value = match.groupdict().get("value") or match.group()
    return match.group().removesuffix(value) + "[redacted]"
