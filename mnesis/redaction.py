"""The catalogue of secrets, and their redaction in text, in plain data and in log records.

A secret is replaced with a marker that records its kind, such as `[redacted: github-token]`. Redacting twice changes nothing
more. Each pattern runs in linear time: repetitions are bounded, and no two adjacent ones match the same characters.

Shapes and prefixes come from the providers' documentation, and from the rules of gitleaks (config/gitleaks.toml) and the
plugins of detect-secrets 1.5. detect-secrets itself reads single lines of files under global settings, finds only the first
line of a private key, and takes about 0.6 ms for a line, so its engine is not used here.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RedactSetting = (
    bool | Callable[[str], str] | Sequence[str | re.Pattern[str]] | Mapping[str, str | re.Pattern[str]] | None
)
"""The type of the setting `redact=`; see `Redaction.from_setting`."""


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """A kind of secret and its shape. If the expression has a group `value`, only that group is the secret.

    Every match contains one of the `literals`, in upper or lower case; an empty tuple means that no literal is known.
    Literals make texts without secrets cheap, because finding a literal is about a hundred times faster than the
    expression.
    """

    kind: str
    expression: re.Pattern[str]
    literals: tuple[str, ...] = ()


_SEPARATOR = r"""[\\"']{0,4} \s{0,4} (?: => | [=:] ) \s{0,4} [\\"'`]{0,4}"""
# A value is not a marker, a placeholder (<key>, ${KEY}, %s, ***), or a call in code (`password = read_password()`).
_NO_PLACEHOLDER = r"""(?! [\[<$%{(] | \*+(?:$|\W) | (?:None|null|true|false|undefined)\b | [\w.]{1,80}[(\[] )"""


def _named_value(names: str, min_chars: int) -> str:
    """Return the expression of a value after one of these names, such as `password=` or `"api_key": `."""
    value = rf"""(?P<value> {_NO_PLACEHOLDER} [^\s"'`,;}})\\&]{{{min_chars},4096}} )"""
    return rf"(?ix) (?: {names} ) {_SEPARATOR} {value}"


def _pattern(kind: str, literals: str, expression: str) -> SecretPattern:
    return SecretPattern(kind, re.compile(expression), tuple(literals.split()))


CATALOGUE: tuple[SecretPattern, ...] = (
    # RFC 7468, OpenSSH and OpenPGP armour. A block that was cut off is a secret too.
    _pattern(
        "private-key",
        "-----begin",
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?!-----END )[\s\S]){0,65536}(?:-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    # RFC 3986, 3.2.1. The last @ before the path ends the user information, so that a password may contain one.
    _pattern("url-password", "://", r"(?<=://)[^\s/:@\"'<>]{0,256}:(?P<value>(?!\[redacted)[^\s/\"'<>]{1,512})(?=@)"),
    _pattern("url-password", "://", r"(?<=://)(?P<value>[\w.~%+-]{20,512})(?=@)"),
    # RFC 6750, RFC 7617: values of the Authorization header.
    _pattern(
        "authorization",
        "bearer authorization",
        r"(?i)\b(?:bearer|authorization\W{1,6}(?:basic|token|digest))\s{1,4}(?P<value>[\w.~+/*\-]{8,8192}={0,4})",
    ),
    # RFC 7519: header and payload are base64 of a JSON object, which begins with {" (eyJ).
    _pattern("jwt", "eyj", r"\beyJ[\w-]{8,8192}\.eyJ?[\w-]{4,16384}(?:\.[\w-]{0,8192})?"),
    # RFC 6265: the whole list of cookies.
    _pattern(
        "cookie",
        "cookie",
        r"(?i)\b(?:set-)?cookie[\\\"']{0,4}\s{0,4}[:=]\s{0,4}[\\\"']{0,4}(?P<value>(?!\[redacted)[\w!#$%&'*+.^`|~-]{1,256}=[^\s\"'\\][^\r\n\"'\\]{0,8192})",
    ),
    _pattern("aws-key", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{12,124}"),
    _pattern("google-key", "aiza gocspx-", r"\bAIza[\w-]{20,80}|\bGOCSPX-[\w-]{20,60}"),
    _pattern("google-token", "ya29. 1//0", r"\bya29\.[\w.-]{10,2048}|(?<![\w/])1//0[\w-]{20,512}"),
    _pattern(
        "github-token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\bgh[pousr]_[A-Za-z0-9]{6,255}|\bgithub_pat_\w{10,255}",
    ),
    _pattern(
        "gitlab-token",
        "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- gr1348941",
        r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[\w.-]{6,320}|\bGR1348941[\w-]{20,50}",
    ),
    _pattern(
        "slack-token",
        "xox xapp- hooks.slack.com",
        r"\bxox[a-z](?:\.xox[a-z])?-[\w-]{10,512}|\bxapp-\d-[\w-]{10,512}|(?<=hooks\.slack\.com/services/)[\w/+-]{20,80}",
    ),
    _pattern("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{20,64}"),
    _pattern("pypi-token", "pypi-", r"\bpypi-[\w-]{16,1024}"),
    _pattern("digitalocean-token", "_v1_", r"\bdo[opr]_v1_[a-f0-9]{32,64}"),
    _pattern("sendgrid-key", "sg.", r"\bSG\.[\w-]{16,64}\.[\w-]{16,64}"),
    _pattern("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _pattern("vault-token", "hvs. hvb. hvr.", r"\bhv[sbr]\.[\w-]{20,512}"),
    _pattern("databricks-token", "dapi", r"\bdapi[a-f0-9]{32}(?:-\d)?\b"),
    _pattern("twilio-key", "sk", r"\bSK[0-9a-fA-F]{32}\b"),
    _pattern("telegram-token", ":aa", r"\b\d{8,10}:AA[\w-]{33}\b"),
    _pattern("discord-token", ".", r"\b[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,45}"),
    _pattern("age-key", "age-secret-key-1", r"\bAGE-SECRET-KEY-1[0-9A-Z]{40,80}"),
    # Keys of model providers and others by prefix. Names in code have words in that place. A key has at least one
    # digit, capital or mask, or an unbroken run of twelve characters.
    _pattern(
        "api-key",
        "sk- sk_ pk- pk_ rk- rk_ xai hf- hf_ pplx r8 nvapi fw tgp csk whsec",
        r"\b(?:sk|pk|rk|gsk|xai|hf|pplx|r8|nvapi|fw|tgp|csk|whsec)[-_](?=[a-z_.-]{0,80}(?:[0-9A-Z*]|[a-z]{12}))[\w*.-]{5,511}[\w*-]",
    ),
    _pattern(
        "azure-key",
        "accountkey account_key shared",
        _named_value(r"account_?key | shared_?access_?(?:key|signature)", 8),
    ),
    _pattern("azure-key", "sig=", r"(?<=[?&]sig=)[\w%+/-]{16,256}=?"),
    _pattern("api-key", "key=", r"(?<=[?&]key=)(?!\[redacted)[^\s\"'&,;}]{8,512}"),
    _pattern(
        "api-key",
        "key",
        _named_value(r"(?: api[-_\ ]?key | access[-_]?key | subscription[-_]?key ) (?:\ provided)?", 8),
    ),
    _pattern("password", "passw passphrase pwd", _named_value(r"passw(?:or)?d | passphrase | passwort | pwd", 4)),
    _pattern(
        "secret",
        "token secret credential private signing encryption",
        _named_value(
            r"token | secret(?:[-_][a-z]{1,32}){0,4} | credentials? | (?: private | signing | encryption )[-_]?key",
            8,
        ),
    ),
)

_SECRET_NAME = re.compile(
    r"""(?ix) (?: api[-_]?key | access[-_]?key | account[-_]?key | private[-_]?key | encryption[-_]?key | subscription[-_]?key
    | passw(?:or)?d | passphrase | \bpwd | secret(?:[-_][a-z]+)* | credentials? | authorization | cookies? | (?<![a-z])token
    | (?-i:Token) | (?:auth|access|refresh|bearer|id|session)token | connection[-_]?string )$"""
)


def redact(text: str, patterns: Iterable[SecretPattern] = CATALOGUE) -> str:
    """Replace the secrets in a text with markers such as `[redacted: password]`."""
    lower_text = text.lower()
    for pattern in patterns:
        if not pattern.literals or any(literal in lower_text for literal in pattern.literals):
            text = pattern.expression.sub(_Replacement(pattern.kind), text)
    return text


class _Replacement:
    """The replacement of one match of a pattern."""

    def __init__(self, kind: str) -> None:
        self._marker = marker(kind)

    def __call__(self, match: re.Match[str]) -> str:
        if match.re.groupindex.get("value") is None:
            return self._marker if match.group() else ""
        start, end = (position - match.start() for position in match.span("value"))
        whole = match.group()
        return f"{whole[:start]}{self._marker}{whole[end:]}"


def marker(kind: str) -> str:
    """Return the text that replaces a secret of this kind."""
    return f"[redacted: {kind}]"


@dataclass(frozen=True, slots=True)
class Redaction:
    """How texts and data are redacted: with the function `text`, and by the names of fields if `by_name` is true."""

    text: Callable[[str], str] = redact
    by_name: bool = True

    @classmethod
    def from_setting(cls, setting: RedactSetting) -> Redaction | None:
        """Return the redaction for a `redact=` setting, or None if nothing is to be redacted.

        True means the catalogue. A sequence of regular expressions is added to the catalogue, with the kind `custom`; a
        mapping adds them under the kinds that are its keys. A group named `value` limits what a pattern replaces. A callable
        replaces the catalogue: it takes a text and returns the redacted text.

        Raises `ValueError` for anything else, and for an invalid regular expression.
        """
        if setting is None or setting is False:
            return None
        if setting is True:
            return cls()
        if callable(setting):
            return cls(_require_text(setting), by_name=False)
        if isinstance(setting, str | bytes) or not isinstance(setting, Mapping | Sequence):
            raise ValueError(
                "redact must be True, a list of regular expressions, a mapping from kinds to them, or a function, not"
                f" {setting!r}"
            )
        given = setting.items() if isinstance(setting, Mapping) else [("custom", each) for each in setting]
        patterns = [SecretPattern(kind, _compile(expression)) for kind, expression in given]
        return cls(lambda text: redact(redact(text, patterns)))

    def data(self, value: Any, *, kept: Collection[str] = ()) -> Any:
        """Redact every text in plain data, at any depth, except values of the fields `kept`.

        By name, a text in a field such as `api_key` or `password` is a secret.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: item if key in kept else self._member(key, item, kept) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            items = [self.data(item, kept=kept) for item in value]
            return items if isinstance(value, list) else tuple(items)
        return value

    def _member(self, name: object, value: Any, kept: Collection[str]) -> Any:
        is_text = isinstance(value, str | bytes) and bool(value)
        if self.by_name and is_text and isinstance(name, str) and _SECRET_NAME.search(name):
            return value if str(value).startswith("[redacted") else marker("secret")
        return self.data(value, kept=kept)


def redact_data(value: Any) -> Any:
    """Redact every text in plain data with the catalogue. A text in a field such as `api_key` is a secret."""
    return Redaction().data(value)


def _compile(expression: object) -> re.Pattern[str]:
    try:
        if isinstance(expression, str | re.Pattern):
            return re.compile(expression)
    except re.error as error:
        raise ValueError(f"redact contains {expression!r}, which is not a regular expression: {error}") from error
    raise ValueError(f"redact contains {expression!r}; pass regular expressions as strings or compiled patterns")


def _require_text(function: Callable[[str], object]) -> Callable[[str], str]:
    """Return the function, which raises if the user's function returns anything but a text. In that case nothing is
    stored.
    """

    def redact_checked(text: str) -> str:
        redacted = function(text)
        if not isinstance(redacted, str):
            raise TypeError(f"the redact function returned a {type(redacted).__name__}; it must return the text")
        return redacted

    return redact_checked


LOG_CONTENT_VARIABLE = "MNESIS_LOG_CONTENT"
_PLAIN_ERRORS = frozenset({"MnesisStoreError", "FileError", "OSError"})
"""Errors whose texts contain only ids, numbers and paths. The text of any other error may repeat content."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module.

    Its records contain no secrets, neither in their messages nor in their tracebacks. Unless the environment has
    `MNESIS_LOG_CONTENT=1`, errors appear without their texts too, which may repeat the content of a conversation.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(each, _RedactingFilter) for each in logger.filters):
        logger.addFilter(_RedactingFilter())
    return logger


def logs_content() -> bool:
    """Return whether log records may now contain the content of conversations."""
    return os.environ.get(LOG_CONTENT_VARIABLE) == "1"


def describe_error(error: BaseException) -> str:
    """Return the description of an error in a log record: with its text only if the text cannot contain content, or if
    content is allowed.
    """
    name = type(error).__name__
    if logs_content() or not _PLAIN_ERRORS.isdisjoint(each.__name__ for each in type(error).__mro__):
        return f"{name}: {error}"
    status = getattr(error, "status_code", None)
    return f"{name} (status {status})" if status is not None else name


def _format_traceback(error: BaseException) -> str:
    """Return the frames and the description of an error and its causes, the cause first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_format_traceback(cause)}\n\nThe cause of:\n\n" if cause is not None else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{before}Traceback (most recent call last):\n{frames}{describe_error(error)}"


class _RedactingFilter(logging.Filter):
    """Redacts records before any handler sees them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                describe_error(each) if isinstance(each, BaseException) else each for each in record.args
            )
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = redact(_format_traceback(record.exc_info[1]))
        return True
