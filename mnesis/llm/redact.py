"""Redaction of secrets in the messages of providers and libraries. Pure functions, no I/O."""

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
    """Replace API keys, bearer tokens and similar secrets in `text` with `[redacted]`.

    Recognizes keys by prefix (sk-…, AKIA…, AIza…), credentials of an Authorization header, and values after a name such
    as `api_key=`, `"token": ` or `?key=`.
    """
    for pattern in _SECRETS:
        text = pattern.sub(_redact_match, text)
    return text


def _redact_match(match: re.Match[str]) -> str:
    value = match.groupdict().get("value") or match.group()
    return match.group().removesuffix(value) + "[redacted]"
