"""Every setting, frozen, typed and validated when it is created.

A wrong type, a value out of range, an unknown field or a contradiction raises `pydantic.ValidationError` (a `ValueError`),
which names the field, the value and what to do. Whether the settings fit a *model* is checked when a session is opened
(`mnesis.context.budget`).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from mnesis.database_url import DatabaseURL, is_database_url, refuse_other_url
from mnesis.encryption import EncryptionKey, KeySource, read_key
from mnesis.errors import ConfigurationError
from mnesis.redaction import Redaction, RedactSetting, marker, redact, redact_data

DEFAULT_DIRECTORY = "~/.mnesis"
DATABASE_VARIABLE = "MNESIS_DB"
"""The environment variable with the path of the database for all APIs. Arguments and explicit settings go first."""
MIN_KEY_BYTES = 16
"""A shorter key can be guessed by trying (128 bits, NIST SP 800-131A)."""


class _Config(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for name in data:
                if name not in cls.model_fields:
                    given = _without_secret(name, data[name])
                    raise ValueError(
                        f"{cls.__name__} has no field {name!r} (given: {given!r}); {cls._suggest_field(str(name))}"
                    )
        return data

    @classmethod
    def _suggest_field(cls, name: str) -> str:
        """Return a hint for an unknown field."""
        for group, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, _Config) and name in kind.model_fields:
                return f"it is a field of {kind.__name__}: pass {group}={{{name!r}: …}}"
        close = difflib.get_close_matches(name, cls.model_fields, n=1)
        return f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(cls.model_fields)}"

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _without_secrets(error) from None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redact_data({name: value})[name]


_OPTIONS = ("llm_options", "compaction_options", "storage_url")
"""Fields whose whole value may be a key that was passed by mistake."""


def _without_secret(name: object, value: object) -> object:
    """Return the form in which an error message may show the value of a field."""
    return marker("secret") if name in _OPTIONS and isinstance(value, str) else redact_data({name: value})[name]


def _without_secrets(error: ValidationError) -> ValidationError:
    """Return the error with every value redacted, because a value that the user passed may be a key."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(each["type"], "{message}", {"message": redact(each["msg"])}),
            loc=each["loc"],
            input=_without_secret(each["loc"][-1] if each["loc"] else None, each["input"]),
        )
        for each in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details)


def _expand_path(value: object) -> object:
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if not text:
            raise ValueError("the path is empty; pass the path of a file, or omit the field")
        return Path(text).expanduser() if isinstance(text, str) else text
    return value


UserPath = Annotated[Path, BeforeValidator(_expand_path)]


def _parse_database(value: object) -> object:
    if isinstance(value, str):
        refuse_other_url(value)
    return DatabaseURL(value) if isinstance(value, str) and is_database_url(value) else _expand_path(value)


DatabasePath = Annotated[Path | DatabaseURL, BeforeValidator(_parse_database)]


def _list_to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


DATABASE_STORAGE = "database"
"""The `storage_url` of files in the PostgreSQL database of the sessions."""
_STORAGE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_storage_url(text: str) -> bool:
    """Return whether a text is the URL of an object store, not a path."""
    return _STORAGE_URL.match(text) is not None


def _check_storage_url(value: object) -> object:
    """Return a URL without its last slash. Its errors do not repeat it, since it may contain a password."""
    if not isinstance(value, str) or value == DATABASE_STORAGE:
        return value
    if is_database_url(value):
        raise ValueError(f"storage_url must be {DATABASE_STORAGE!r} for files in the database of the sessions")
    if not is_storage_url(value) or not value.partition("://")[2].strip("/"):
        raise ValueError(
            "storage_url must be a URL with a scheme and a path, such as s3://bucket/prefix, or"
            f" {DATABASE_STORAGE!r} for the PostgreSQL database of the sessions"
        )
    if re.search(r"://[^/]*:[^/]*@", value) or "?" in value:
        raise ValueError(
            "storage_url must not contain credentials; pass them where fsspec reads them, in the environment"
        )
    if re.search(r"[*\[\]#\s\0]", value):
        raise ValueError("storage_url must not contain spaces or any of * [ ] #; use another path")
    return value.rstrip("/")


class CompactionConfig(_Config):
    """When and how the active context is compacted. Token counts are in tokens of the session's model."""

    auto: bool = Field(default=True, description="Auto-trigger compaction on overflow")
    compaction_output_budget: int = Field(
        default=20_000, ge=1_000, le=200_000, description="Tokens reserved as headroom for compaction summary output"
    )
    prune: bool = Field(default=True, description="Run tool output pruning before compaction")
    prune_protect_tokens: int = Field(
        default=40_000, ge=0, description="Token window from the end of history that is never pruned"
    )
    prune_minimum_tokens: int = Field(
        default=20_000, ge=0, description="Minimum prunable volume required before pruning fires"
    )
    compaction_model: str | Callable[..., Any] | None = Field(
        default=None,
        description="Model for summarisation, or a callable that takes the prompt's messages and returns the summary."
        " None = use session model",
    )
    reuse_cached_prefix: bool = Field(
        default=False,
        description="Let the session's own model summarise from the conversation as its provider has it in the prompt cache, if"
        " that is cheaper than sending a transcript to the compaction model. Such a request has the conversation's tools and options, and its one cache mark is at the end of the cached part, so it writes nothing to the cache",
    )
    compaction_options: dict[str, Any] | None = Field(
        default=None,
        description="Additional arguments for each summariser call (api_base, temperature, …). None = the address, keys and headers of the session's llm_options, if the provider is the same",
    )
    level2_enabled: bool = Field(default=True, description="Attempt Level 2 compression before falling back to Level 3")
    compaction_prompt: str | None = Field(
        default=None,
        min_length=1,
        description="Custom prompt string for Level 1/2 LLM summarisation. None = use the built-in agentic prompt",
    )
    soft_threshold_fraction: float = Field(
        default=0.6,
        ge=0.1,
        le=0.95,
        description="Fraction of usable context at which background compaction triggers (before hard threshold)",
    )
    max_compaction_rounds: int = Field(
        default=10, ge=1, le=50, description="Cap on summarise+condense cycles in multi-round loop"
    )
    condensation_enabled: bool = Field(
        default=True, description="Whether to attempt condensation of accumulated summary nodes"
    )
    low_water_fraction: float = Field(
        default=0.1,
        ge=0.02,
        le=0.9,
        description="Fraction of usable context to which a compaction reduces the context",
    )
    fresh_tail_fraction: float | None = Field(
        default=0.05,
        gt=0.0,
        le=0.9,
        description="Fraction of usable context that the two newest user turns may take before a compaction folds parts of them"
        " too, between tool steps. The newest user message and at least two steps always stay; turns without tool calls are never"
        " cut. None = both turns are kept whole as long as they fit the window",
    )
    fresh_tail_min_tokens: int = Field(
        default=4_000,
        ge=0,
        description="Tokens that the two newest user turns may always take, even if fresh_tail_fraction of a small window is less",
    )
    summary_fraction: float = Field(
        default=0.4,
        gt=0.0,
        lt=1.0,
        description="Fraction of the low-water mark that summaries may take before they are condensed",
    )
    timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        description="Time limit of one summariser call in seconds; after it, the next level is tried",
    )
    sweep_timeout_seconds: float = Field(
        default=180.0,
        gt=0,
        description="Time for all summariser calls of one compaction in seconds; after it, level 3 finishes without a model",
    )
    summary_concurrency: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="How many parts of a long history are summarised at the same time. None = 4, or 1 for servers that answer one"
        " request at a time by default (Ollama, LM Studio, llama.cpp)",
    )
    max_summarizer_failures: int = Field(
        default=3,
        ge=1,
        le=1_000,
        description="Failed summariser calls in a row after which the model is not called for a while (circuit breaker). A summary without an accepted answer counts as one failure, unless the answers were only too long",
    )
    summarizer_pause_seconds: float = Field(
        default=300.0,
        gt=0,
        description="Seconds for which the model is not called after that; then one trial call is made",
    )
    max_summary_cost_per_session: float | None = Field(
        default=None, gt=0, description="US dollars that all summaries of a session may cost. None = no limit"
    )
    max_summary_cost_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="US dollars that the summaries of a session may cost within an hour. None = no limit",
    )
    max_summary_calls_per_hour: int | None = Field(
        default=None, ge=1, description="Summariser calls of a session within an hour. None = no limit"
    )
    cache_expiry: Literal["ignore", "after", "before"] = Field(
        default="after",
        description="What to do when the provider's cache expires: 'after' compacts before the next request once the cache has"
        " certainly expired, because the prefix must be written again anyway; 'before' also compacts while the session is open"
        " and idle, shortly before that; 'ignore' does nothing",
    )
    expiry_threshold_fraction: float = Field(
        default=0.5,
        ge=0.1,
        le=1.0,
        description="Fraction of the soft threshold at and above which an expired cache is a reason to compact",
    )
    expiry_margin_seconds: float = Field(
        default=30.0, ge=0, description="How long before the expiry 'before' compacts, in seconds"
    )

    @field_validator("compaction_model")
    @classmethod
    def _check_model_name(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError(
                "compaction_model is empty; pass the name of a model, a callable, or None for the session's model"
            )
        return value

    @model_validator(mode="after")
    def _check_thresholds(self) -> CompactionConfig:
        if self.prune and self.prune_minimum_tokens >= self.prune_protect_tokens > 0:
            raise ValueError(
                f"prune_minimum_tokens ({self.prune_minimum_tokens:,}) must be below prune_protect_tokens"
                f" ({self.prune_protect_tokens:,}); lower the first or raise the second"
            )
        if self.low_water_fraction >= self.soft_threshold_fraction:
            raise ValueError(
                f"low_water_fraction ({self.low_water_fraction}) must be below soft_threshold_fraction"
                f" ({self.soft_threshold_fraction}), or every compaction would trigger the next; lower the first"
            )
        return self


class FileConfig(_Config):
    """How large files and large tool outputs are stored."""

    inline_threshold: int = Field(
        default=10_000,
        ge=100,
        description="Files estimated above this token count are stored as FileRefPart objects",
    )
    storage_dir: UserPath = Field(
        default=Path(DEFAULT_DIRECTORY, "files"),
        validate_default=True,
        description="Directory for external file storage",
    )
    storage_url: Annotated[str | None, BeforeValidator(_check_storage_url)] = Field(
        default=None,
        description="URL of an object store for the files, such as s3://bucket/prefix (extra `object-storage`), or"
        " 'database' for the PostgreSQL database of the sessions; `storage_dir` then has copies. None = the files are in"
        " `storage_dir`, or in the PostgreSQL database if `storage_dir` is not set",
    )
    exploration_summary_model: str | None = Field(
        default=None, description="Model for summaries of unstructured files. None = structural summaries only"
    )
    max_file_bytes: int = Field(
        default=20_000_000_000, ge=1, description="Maximum size of an imported file; files are copied"
    )
    allowed_roots: Annotated[tuple[UserPath, ...] | None, BeforeValidator(_list_to_tuple)] = Field(
        default=None,
        description="Directories that files may be imported from; links that lead outside are refused. None = anywhere",
    )

    def is_in_database(self, location: str | os.PathLike[str]) -> bool:
        """Return whether the database at this path or URL also stores the files. Raises `ConfigurationError` if
        `storage_url` demands that, but the database is not PostgreSQL.
        """
        if self.storage_url != DATABASE_STORAGE:
            has_own_place = self.storage_url is not None or "storage_dir" in self.model_fields_set
            return is_database_url(location) and not has_own_place
        if not is_database_url(location):
            raise ConfigurationError(
                f"FileConfig.storage_url={DATABASE_STORAGE!r} needs a PostgreSQL database, and {str(location)!r} is not one; omit it,"
                " or pass the URL of an object store"
            )
        return True


EncryptionSetting = str | bytes | SecretStr | SecretBytes | KeySource | None
"""The types in which a key may be passed. Text and bytes are kept as a secret, which `repr` does not show."""


class StoreConfig(_Config):
    """The database: an SQLite file, or a PostgreSQL server."""

    db_path: DatabasePath = Field(
        default=Path(DEFAULT_DIRECTORY, "sessions.db"),
        validate_default=True,
        description="Path to the SQLite database file (~ is expanded at runtime), or the URL of a PostgreSQL database"
        " (postgresql://…); ':memory:' keeps everything in memory",
    )
    wal_mode: bool = Field(default=True, description="Use WAL journal mode for better concurrent read performance")
    connection_timeout: float = Field(default=30.0, gt=0, description="Seconds to wait for the database connection")
    max_connections: int = Field(
        default=8, ge=1, le=1_000, description="Maximum number of connections of this process to a PostgreSQL server"
    )
    read_only: bool = Field(default=False, description="Never write: create no file, upgrade no schema, index nothing")
    durability: Literal["normal", "full"] = Field(
        default="normal",
        description="'normal': a killed process loses nothing, a power failure may lose the newest writes;"
        " 'full': every acknowledged write is on disk",
    )
    integrity_key: SecretBytes | None = Field(
        default=None,
        description="Secret key, at least 16 bytes, that seals what is stored: verify() then proves that nobody without the"
        " key changed anything. None = hashes without a key",
    )
    encryption_key: EncryptionSetting = Field(
        default=None,
        description="Key of an encrypted SQLite database and of its stored files: 32 bytes or 64 hexadecimal digits, a passphrase,"
        " or a callable that returns either. None = not encrypted",
    )

    @field_validator("integrity_key", mode="before")
    @classmethod
    def _encode_key(cls, value: Any) -> Any:
        key = value.encode() if isinstance(value, str) else value
        length = len(key.get_secret_value() if isinstance(key, SecretBytes) else key or b"")
        if key is not None and length < MIN_KEY_BYTES:
            raise ValueError(
                f"integrity_key has {length} bytes; pass at least {MIN_KEY_BYTES}, for example secrets.token_bytes(32)"
            )
        return key

    @field_validator("encryption_key", mode="before")
    @classmethod
    def _hide_encryption_key(cls, value: Any) -> Any:
        secret = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
        if secret is None or callable(secret):
            return secret
        EncryptionKey(secret)
        return SecretBytes(secret) if isinstance(secret, bytes) else SecretStr(secret)

    def read_encryption_key(self) -> EncryptionKey | None:
        """Return the key of the database, or None if it is not encrypted. Calls the setting if it is a callable.

        Raises `EncryptionKeyError` if the callable returns no key.
        """
        setting = self.encryption_key
        return read_key(setting.get_secret_value() if isinstance(setting, SecretStr | SecretBytes) else setting)

    def resolve_path(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the path of the database without `~`, or its URL as a `DatabaseURL`.

        It is `path`, or `db_path` if that was set, or `MNESIS_DB` in the environment now, or the default.
        """
        if path is None and "db_path" not in self.model_fields_set:
            path = os.environ.get(DATABASE_VARIABLE) or None
        location = os.fspath(self.db_path if path is None else path)
        refuse_other_url(location)
        return DatabaseURL(location) if is_database_url(location) else os.path.expanduser(location)


class OperatorConfig(_Config):
    """Parallelism of LLMMap and AgenticMap."""

    llm_map_concurrency: int = Field(
        default=16, ge=1, le=128, description="Maximum concurrent LLM calls in LLMMap.run()"
    )
    agentic_map_concurrency: int = Field(
        default=4, ge=1, le=32, description="Maximum concurrent sub-agent sessions in AgenticMap.run()"
    )
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Per-item retry attempts on validation or transient errors"
    )


class RetryConfig(_Config):
    """Retries of model calls that fail with a rate limit, a time-out, a lost connection or a server error."""

    max_retries: int = Field(default=0, ge=0, le=20, description="Maximum number of attempts after the first")
    base_delay: float = Field(
        default=1.0, ge=0, description="Seconds before the first retry; doubled for each further retry"
    )
    max_delay: float = Field(
        default=60.0, ge=0, description="Maximum wait in seconds; a longer Retry-After ends the retries"
    )
    jitter: bool = Field(
        default=True, description="Randomise the waits, so that many clients do not retry at the same time"
    )

    @model_validator(mode="after")
    def _check_delays(self) -> RetryConfig:
        if self.base_delay > self.max_delay:
            raise ValueError(
                f"base_delay ({self.base_delay}) is above max_delay ({self.max_delay}); lower the first or raise the second"
            )
        return self


class SessionConfig(_Config):
    """Behaviour of one session."""

    doom_loop_threshold: int = Field(
        default=3, ge=2, le=10, description="Consecutive identical tool calls before DOOM_LOOP_DETECTED fires"
    )
    on_doom_loop: Literal["warn", "stop"] = Field(
        default="warn",
        description="What send() does in a doom loop: 'warn' continues and sets doom_loop_detected; 'stop' ends the turn"
        " before the repeated call runs, with finish_reason 'doom_loop'",
    )
    retry: RetryConfig = Field(default_factory=RetryConfig, strict=False, description="Retries of failed model calls")
    max_tool_rounds: int = Field(default=25, ge=1, le=1_000, description="Maximum number of model calls in one send()")
    tool_concurrency: int = Field(
        default=8, ge=1, le=64, description="Maximum number of tool calls of one reply that run at the same time"
    )
    request_timeout_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Time limit of one model call in seconds; while streaming, of the wait for each chunk",
    )
    llm_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Additional arguments for each model call, passed unchanged (temperature, api_base, …)",
    )
    prompt_cache: Literal["5m", "1h", "off"] = Field(
        default="5m",
        description="How long providers that cache on request (Claude) keep the prefix; 'off' sends no cache marks",
    )
    exclusive_turns: bool = Field(
        default=False,
        description="Run one turn of a session at a time across all processes that set this; others wait for their turn",
    )
    exclusive_wait_seconds: float = Field(
        default=60.0, ge=0, description="How long a turn waits for another process before it raises SessionBusyError"
    )
    exclusive_lease_seconds: float = Field(
        default=15.0,
        ge=0.3,
        description="How long a process that stopped responding keeps others waiting; a process known to be dead never does",
    )

    if TYPE_CHECKING:
        # For type checkers, which would otherwise refuse a dict as `retry`.
        def __init__(
            self,
            *,
            doom_loop_threshold: int = ...,
            on_doom_loop: Literal["warn", "stop"] = ...,
            retry: RetryConfig | Mapping[str, Any] = ...,
            max_tool_rounds: int = ...,
            tool_concurrency: int = ...,
            request_timeout_seconds: float = ...,
            llm_options: dict[str, Any] = ...,
            prompt_cache: Literal["5m", "1h", "off"] = ...,
            exclusive_turns: bool = ...,
            exclusive_wait_seconds: float = ...,
            exclusive_lease_seconds: float = ...,
        ) -> None: ...


class RecallConfig(_Config):
    """How original messages are brought back: recall tools for the model, and automatic recall. In the model's tokens."""

    enabled: bool = Field(
        default=False, description="Automatic recall: insert the originals that match the newest message before it"
    )
    max_tokens: int = Field(default=4_000, ge=100, description="Maximum number of tokens of the recalled originals")
    max_messages: int = Field(
        default=100, ge=1, le=100, description="Maximum number of recalled originals; usually the tokens decide"
    )
    tools: bool = Field(
        default=True,
        description="Offer lcm_grep, lcm_describe and lcm_expand to the model once its context omits anything",
    )
    tool_tokens: int = Field(
        default=8_000, ge=200, description="Maximum number of tokens of all results of these tools in one turn"
    )
    tool_result_tokens: int = Field(default=2_000, ge=200, description="Maximum number of tokens of one result")
    vectors: Any = Field(
        default=None,
        description="Also search by meaning: 'wordllama' (extra `vectors`), a function from a list of texts to a list of vectors, or"
        " an embedding object of LangChain or LlamaIndex. None = by words",
    )
    vectors_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The name under which vectors are stored; another name computes them again. None = named after the model",
    )

    @field_validator("vectors")
    @classmethod
    def _check_vectors(cls, value: Any) -> Any:
        is_object = any(hasattr(value, name) for name in ("embed_documents", "get_text_embedding_batch"))
        if value is None or value == "wordllama" or is_object or (callable(value) and not isinstance(value, type)):
            return value
        raise ValueError(
            f"vectors is {value!r}; expected 'wordllama', a function from a list of texts to a list of vectors, or an embedding"
            " object of LangChain or LlamaIndex"
        )


class RetentionConfig(_Config):
    """Which sessions are erased. All conditions that are set must hold; with none set, nothing is erased."""

    older_than_days: float | None = Field(
        default=None, gt=0, description="Sessions that were not used for this many days"
    )
    keep_last: int | None = Field(
        default=None, ge=0, description="Keep this many of the matching sessions, the most recently used ones"
    )
    match: str | None = Field(
        default=None, min_length=1, description="Sessions whose id, title or agent matches this pattern (*, ?, [...])"
    )
    purge_files: bool = Field(
        default=True, description="Also erase stored files that no remaining session of any database refers to"
    )

    @property
    def selects_sessions(self) -> bool:
        """Whether any condition is set."""
        return (self.older_than_days, self.keep_last, self.match) != (None, None, None)


class ModelOverrides(_Config):
    """Properties of the session's model, where they differ from the built-in table."""

    context_limit: int | None = Field(
        default=None, ge=256, description="Context window of the model in tokens, input and output"
    )
    max_output_tokens: int | None = Field(
        default=None, ge=1, description="Tokens reserved for each reply, and requested from the provider"
    )
    encoding: Literal["cl100k_base", "o200k_base", "claude_heuristic", "heuristic", "unknown"] | None = Field(
        default=None,
        description="Encoding used to count tokens. 'heuristic' estimates from characters, within about 20 %, and saves the memory of"
        " a tokenizer's table",
    )
    dialect: str | None = Field(
        default=None,
        description="What the endpoint accepts in a request, by name ('alternating', 'openai', …; see the page on providers)."
        " None = from the model string",
    )


class MnesisConfig(_Config):
    """All settings, in groups. Every field has a default. A group may be given as a dict of its fields."""

    compaction: CompactionConfig = Field(default_factory=CompactionConfig, strict=False)
    file: FileConfig = Field(default_factory=FileConfig, strict=False)
    store: StoreConfig = Field(default_factory=StoreConfig, strict=False)
    operators: OperatorConfig = Field(default_factory=OperatorConfig, strict=False)
    session: SessionConfig = Field(default_factory=SessionConfig, strict=False)
    recall: RecallConfig = Field(default_factory=RecallConfig, strict=False)
    retention: RetentionConfig = Field(default_factory=RetentionConfig, strict=False)
    model_overrides: ModelOverrides | None = Field(default=None, strict=False)
    redact: Any = Field(
        default=None,
        description="Replace secrets before anything is stored: True (the catalogue), regular expressions in a list or by kind"
        " in a mapping (with the catalogue), or a function from text to text (instead of it). None = store everything verbatim",
    )

    @property
    def redaction(self) -> Redaction | None:
        """The function that redacts texts before they are stored, or None."""
        return Redaction.from_setting(self.redact)

    @field_validator("redact")
    @classmethod
    def _check_redact(cls, value: Any) -> Any:
        Redaction.from_setting(value)
        return value

    if TYPE_CHECKING:
        # For type checkers, which would otherwise refuse the dicts.
        def __init__(
            self,
            *,
            compaction: CompactionConfig | Mapping[str, Any] = ...,
            file: FileConfig | Mapping[str, Any] = ...,
            store: StoreConfig | Mapping[str, Any] = ...,
            operators: OperatorConfig | Mapping[str, Any] = ...,
            session: SessionConfig | Mapping[str, Any] = ...,
            recall: RecallConfig | Mapping[str, Any] = ...,
            retention: RetentionConfig | Mapping[str, Any] = ...,
            model_overrides: ModelOverrides | Mapping[str, Any] | None = ...,
            redact: RedactSetting = ...,
        ) -> None: ...


ConfigOrDict = MnesisConfig | Mapping[str, Any]
"""A configuration, or a dict of its groups."""


def parse_config(config: ConfigOrDict | None) -> MnesisConfig | None:
    """Return the configuration that a user passed as `config=`, which may be a dict of its groups.

    Raises `ConfigurationError` for a value of another type, and `pydantic.ValidationError` for a dict with a wrong field.
    """
    if config is None or isinstance(config, MnesisConfig):
        return config
    if isinstance(config, Mapping):
        return MnesisConfig(**config)
    group = _group_of(type(config))
    hint = f"; pass MnesisConfig({group}=…)" if group else "; pass a MnesisConfig, or a dict of its groups"
    raise ConfigurationError(f"config={config!r:.100} is not a configuration{hint}")


def _group_of(kind: type) -> str | None:
    """Return the group of `MnesisConfig` whose settings are of this class."""
    fields = MnesisConfig.model_fields.items()
    return next(
        (name for name, field in fields if kind is field.annotation or kind in get_args(field.annotation)), None
    )
